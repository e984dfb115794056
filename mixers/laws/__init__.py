"""The laws that prove what a mixer claims, as properties over drawn shapes and seeds.

from mixers.laws import check_mixer
check_mixer(MyMixer, claims=["causal", "prefix"], heads=2)
"""

from mixers.laws.check import Finding, check_mixer, prove, survey
from mixers.laws.law import BrokenLaw, Law
from mixers.laws.subject import Subject
from mixers.laws.table import LAWS

__all__ = ["LAWS", "BrokenLaw", "Finding", "Law", "Subject", "check_mixer", "prove", "survey"]
