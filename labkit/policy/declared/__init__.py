"""The declared view of a mesh: what the objects alone say of every edge, and of changes to them. Pure.

settings, rules, registry   what there is: the mesh's settings, Istio's objects, workloads and the hosts that they call
routing                     where a call goes before anybody encrypts it
judging, access             the verdict, from both sides; answers and reasons are its words
mesh                        one call, and all calls
"""

from labkit.policy.declared.answers import Answer, Way
from labkit.policy.declared.groups import Group
from labkit.policy.declared.mesh import KINDS_READ, DeclaredMesh, EdgeVerdict, Explanation
from labkit.policy.declared.reasons import Because, Rule
from labkit.policy.declared.registry import Target
from labkit.policy.declared.settings import MeshSettings, read_settings

__all__ = [
    "KINDS_READ",
    "Answer",
    "Because",
    "DeclaredMesh",
    "EdgeVerdict",
    "Explanation",
    "Group",
    "MeshSettings",
    "Rule",
    "Target",
    "Way",
    "read_settings",
]
