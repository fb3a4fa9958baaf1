"""One thin adapter for each force-field library: ``calculator(model, device)`` gives its ASE calculator.

``model`` is the library's name for published weights, or the path of a checkpoint. Libraries are imported
where they are used, so that one that is absent, or broken, costs nobody else.

``torch_sim_model(calculator, device)`` gives the library's model for torch-sim with what that calculator has
loaded, which is of no use by itself afterwards.
"""
