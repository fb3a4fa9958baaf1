import threading

import pytest
import torch

from crysjepa import datasets
from crysjepa.jepa import crys_jepa
from crysjepa.jepa.crys_jepa import CrysJepa
from crysjepa.runtime.threads import map_batches


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("num", [1, 3])
def test_results_come_in_order_to_the_caller_and_each_batch_has_one_thread(threads, num):
    threads(num)
    taken, workers, inside = [], set(), []
    meeting = threading.Barrier(num, timeout=30)

    def work(batch):
        meeting.wait()  # as many are at work as there are threads, or this breaks
        workers.add(threading.get_ident())
        inside.append(torch.get_num_threads())
        return batch**2

    def take(batch, result):
        assert threading.get_ident() == threading.main_thread().ident
        taken.append((batch, result))

    map_batches(work, range(6), take)
    assert taken == [(i, i**2) for i in range(6)]
    assert len(workers) == num and set(inside) == {1} and torch.get_num_threads() == num


@pytest.mark.parametrize("num", [1, 2])
def test_what_a_batch_raises_is_raised_and_the_threads_are_given_back(threads, num):
    threads(num)

    def work(batch):
        if batch == 2:
            raise ValueError("batch 2")
        return batch

    taken = []
    with pytest.raises(ValueError, match="batch 2"):
        map_batches(work, range(5), lambda batch, _: taken.append(batch))
    assert taken == [0, 1] and torch.get_num_threads() == num


def test_an_embedding_does_not_depend_on_the_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(crys_jepa, "MAX_PAIRS", 500)
    crystals, model = datasets.load("flla").crystals()[::40], CrysJepa.load()
    found = []
    for num in (1, 2):
        threads(num)
        found.append(model.embed(crystals).tobytes() + model.embed_atoms(crystals).tobytes())
    assert found[0] == found[1]
