"""How good and how fast a model is, per solver, grid, steps and guidance: ``flowtts bench``.

Every setting says the same sentences in the same voices with the same durations from the same noise. Distance to the
converged result (a reference run of many small steps) tells the error of the solver apart from what the model is.
"""

from flowtts.bench.fitting import Fielded as Fielded
from flowtts.bench.job import Job as Job
from flowtts.bench.job import Outline as Outline
from flowtts.bench.job import outline as outline
from flowtts.bench.run import bench as bench
from flowtts.bench.run import load as load
from flowtts.bench.sentences import Sentence as Sentence
from flowtts.bench.sentences import read_sentences as read_sentences
from flowtts.bench.settings import Setting as Setting
from flowtts.bench.settings import read_plan as read_plan
