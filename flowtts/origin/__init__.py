"""Was a recording of speech generated? A small classifier's opinion, and what it is worth."""

from flowtts.origin.classifier import OriginClassifier as OriginClassifier
from flowtts.origin.classifier import Verdict as Verdict
from flowtts.origin.classifier import judge as judge
