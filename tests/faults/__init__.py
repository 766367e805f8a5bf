"""A proxy with faults, to stand between our client and a real kube-apiserver; production code never imports it."""

from tests.faults.arsenal import Armed
from tests.faults.fault import Fault
from tests.faults.journal import RequestRecord
from tests.faults.proxy import FaultProxy
from tests.faults.request import Match, Request, anything

__all__ = ["Armed", "Fault", "FaultProxy", "Match", "Request", "RequestRecord", "anything"]
