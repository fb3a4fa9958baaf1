"""The options of the command line, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        help="CIF, extxyz, POSCAR, CSV, JSON, Parquet, .pt, .traj, .db, a folder or zip of such, or a data "
        "set's name"
    ),
]
DataSet = Annotated[str, typer.Argument(help="a data set's name")]
RunFolder = Annotated[Path, typer.Argument(help="a finished run's folder")]
Out = Annotated[Path, typer.Option("--out", "-o", help="where to write")]
OutTable = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="where to write: .parquet (holds everything), .csv, .extxyz, .cif, .json, .jsonl, .zip, .vasp, "
        "or a folder of CIFs (no suffix)",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there and was made otherwise")]
Cache = Annotated[Path | None, typer.Option("--out", "-o", help="folder; by default the cache")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with settings of this verb")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="same seed, same result")]
SeedIfAny = Annotated[int | None, typer.Option("--seed", min=0, help="same seed, same result")]
Size = Annotated[
    str, typer.Option("--size", help="small (a laptop's), paper, or paper/64 with a 64th of its parameters")
]
LatticeNoise = Annotated[
    str | None,
    typer.Option(
        "--lattice-noise", help="of the diffusion model: crystal (default), or site, as Eq. 3 reads"
    ),
]
Objective = Annotated[
    str | None, typer.Option("--objective", help="energy, info-nce, info-nce-unweighted or sigreg")
]
Init = Annotated[str | None, typer.Option("--init", help="checkpoint of Crys-JEPA to go on from")]
Steps = Annotated[int | None, typer.Option("--steps", help="training steps")]
Jepa = Annotated[str | None, typer.Option("--jepa", help="Crys-JEPA checkpoint; by default the shipped one")]
Model = Annotated[str | None, typer.Argument(help="Crys-JEPA checkpoint; by default the shipped one")]
Data = Annotated[str, typer.Option("--data", help="crystals to look at: a file, folder or data set's name")]
OutIfAny = Annotated[
    Path | None, typer.Option("--out", "-o", help="folder for figures, page and numbers; without, none")
]
MaxCrystals = Annotated[
    int, typer.Option("--max-crystals", min=2, help="at most so many, drawn at random by the seed")
]
Generator = Annotated[
    str | None,
    typer.Option("--generator", help="checkpoint, a plug-in, or PLUGIN@FILE as saved; by default the flow"),
]
AnyGenerator = Annotated[
    str | None,
    typer.Option(
        "--generator",
        help="flow (default), diffusion, substitution, a plug-in (or PLUGIN@FILE as saved), a checkpoint, or "
        "any file of crystals",
    ),
]
Elements = Annotated[str | None, typer.Option("--elements", help="only these, such as Li,Mg,O")]
ExcludeElements = Annotated[
    str | None,
    typer.Option(
        "--exclude-elements",
        help="none of these, beside radioactive elements and noble gases; 'none' allows even those",
    ),
]
ChemicalSystem = Annotated[
    str | None, typer.Option("--chemical-system", help="exactly these elements, such as Li-Mg-O")
]
Contains = Annotated[
    str | None, typer.Option("--contains", help="all of these, such as Li,S; others may come too")
]
ContainsAny = Annotated[
    str | None,
    typer.Option(
        "--contains-any", help="at least one of these, such as O,S,F, or anions: N,O,F,P,S,Cl,Se,Br,Te,I"
    ),
]
Formula = Annotated[
    str | None,
    typer.Option(
        "--formula",
        help="the reduced formula: LiMnPO4, or letters A B C D E M X for any different elements, as in ABX3",
    ),
]
FormulaUnits = Annotated[
    str | None, typer.Option("--formula-units", help="how many of --formula the cell has: 4, or 1-4")
]
SpaceGroup = Annotated[
    str | None,
    typer.Option(
        "--space-group",
        help="a number (225), a symbol (Fm-3m), a crystal system (cubic), or several, parted by commas: of "
        "the crystal as it is drawn, within 0.1 Å",
    ),
]
MaxSites = Annotated[int | None, typer.Option("--max-sites", help="most sites in the cell")]
MaxElements = Annotated[int | None, typer.Option("--max-elements", help="most different elements")]
Distinct = Annotated[bool, typer.Option("--distinct", help="no formula twice: it is drawn again")]
Parents = Annotated[
    str | None,
    typer.Option("--parents", help="known crystals for substitution: a file or a data set's name [known]"),
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="of substitution: near 0, only the likest elements")
]
Pick = Annotated[
    str | None, typer.Option("--pick", help="from a file: the first crystals (default), or random ones")
]
Processes = Annotated[
    int | None, typer.Option("--processes", help="by default one for each core; they change no crystal")
]
PartOfWork = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="do part I of N (3/10), for crysjepa merge to put together; auto: by the task of a Slurm array",
    ),
]
OnExecutor = Annotated[
    str,
    typer.Option(
        "--executor",
        help="local (default), parsl@FILE with a configuration of Parsl's, or module:callable that returns a "
        "concurrent.futures.Executor: where chunks of work are done",
    ),
]
Num = Annotated[int, typer.Option("--num", "-n", help="how many crystals")]
NumBase = Annotated[int | None, typer.Option("--num", "-n", help="crystals generated by the base model")]
Reference = Annotated[
    str, typer.Option("--reference", help="known crystals: a file, folder or data set's name")
]
ReferenceIfAny = Annotated[str | None, typer.Option("--reference", help="known crystals")]
By = Annotated[
    str,
    typer.Option(
        "--by",
        help="jepa-distance, jepa-hull, jepa-relaxed, fingerprint, composition, random, or a force field",
    ),
]
Index = Annotated[
    str | None,
    typer.Option("--index", help="file that keeps the embedded reference; by default in the cache"),
]
MinHullEntries = Annotated[
    int,
    typer.Option(
        min=0,
        help="rankers by energy: compounds that the hull must know in a chemical system to judge one there",
    ),
]
ForceField = Annotated[
    str | None,
    typer.Option(
        "--force-field", help="chgnet (default), sevennet, …, NAME@CHECKPOINT, or module:Calculator"
    ),
]
Fmax = Annotated[float | None, typer.Option("--fmax", help="eV/Å; largest force at the end")]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", help="most optimiser steps")]
Engine = Annotated[
    str | None,
    typer.Option("--engine", help="what takes the steps: crysjepa (default), or torch-sim, for GPUs"),
]
Static = Annotated[bool, typer.Option("--static", help="energies of the structures as they stand")]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        "--objective",
        help="what else is wanted, as often as you like: 'bulk_modulus>=200', 'density<=4', max:capacity:Li, "
        "min:my_module:my_function",
    ),
]
Best = Annotated[
    str | None,
    typer.Option(
        "--best", help="write only the first so many (500, or 1%), with structures: for crysjepa finetune"
    ),
]
Combine = Annotated[
    str | None,
    typer.Option(
        "--combine", help="objectives and stability: product (of chances), or pareto: the front first"
    ),
]
Relaxed = Annotated[
    bool | None,
    typer.Option(
        "--relax/--no-relax",
        help="relax anew, or judge without energies; by default, crystals that come with our energies are "
        "judged by these, and others are relaxed",
    ),
]
OutOfJudging = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="folder to write to; for a finished run, by default one inside it"),
]
HullSource = Annotated[
    str | None,
    typer.Option(
        "--hull",
        help="compositions with formation energies, or a data set with energies; by default known, and the "
        "reference's own energies",
    ),
]
FetchPhases = Annotated[
    str | None,
    typer.Option(
        "--fetch-phases",
        help="known phases over the network join the hull: mp, mp-api (with a key), alexandria, oqmd; mp=URL "
        "for another address",
    ),
]
Preset = Annotated[str, typer.Option("--preset", help="quick, paper-mp20 or paper-alex-mp20")]
Judging = Annotated[str, typer.Option("--preset", help="default, paper, strict, mattergen or genbench")]
JudgingIfAny = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="default, paper, strict, mattergen or genbench; of a finished run, by default its own rules",
    ),
]
Yardsticks = Annotated[
    bool,
    typer.Option("--yardsticks", help="by MatterGen's and GenBench's definitions too, in one table"),
]
FinetunedOn = Annotated[
    str | None,
    typer.Option("--finetuned-on", help="what the generator was fine-tuned on: a match is not novel"),
]
MatchingProcesses = Annotated[int, typer.Option("--processes", min=1, help="processes that compare crystals")]
DataSets = Annotated[list[str], typer.Argument(help="data sets' names, or crystals in any format")]
Sources = Annotated[
    list[str],
    typer.Argument(help="folders of crysjepa evaluate, and samples in any format; NAME=PATH gives a name"),
]
PartFolders = Annotated[
    list[Path] | None, typer.Argument(help="folders of parts that are not beside the output")
]
Merged = Annotated[Path, typer.Argument(help="the output (--out) that the parts were given")]
Anyway = Annotated[bool, typer.Option("--anyway", help="compare results of different protocols all the same")]
Result = Annotated[Path, typer.Argument(help="a folder that crysjepa evaluate wrote")]
Along = Annotated[
    str, typer.Option("--by", help="fingerprint, or a column of crystals.parquet with a number a crystal")
]
TrainedOn = Annotated[
    str | None, typer.Option("--reference", help="what the generator was trained on, for fingerprints")
]
Version = Annotated[bool, typer.Option("--version", help="print the version and leave")]
