"""A subset without labels, which selects every pod."""

from labkit.checks.expecting import keeps
from labkit.course import World
from labkit.course.acts import apply
from labkit.drills.expecting import prints
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, broken, repaired

NAME = "subset-of-everybody"
TIMES = 12  # half of the requests go astray: one in 4096 looks is lucky
COMMAND = (
    f"for i in $(seq {TIMES}); do "
    "name=$(curl -sSf --max-time 5 http://name.sentences:5000/) || exit 1; "
    'case "$name" in *" "*) echo "$name: from v2"; exit 1;; esac; done; echo all from v1'
)

DRILL = Drill(
    name=NAME,
    title="The new version serves customers already",
    story=(
        "name runs in two versions, and a route sends all requests to the subset stable, which is v1. Still about half "
        "of the answers that callers/curl gets from http://name.sentences:5000/ are those of v2: v1 gives first "
        "names alone, v2 whole names. v2 stays deployed, the route stays, and the subset keeps its name."
    ),
    world=World(applications=("sentences", "callers")),
    breaks=apply(broken(NAME)),
    healed=(
        prints(CALLER, COMMAND, "all from v1", f"asks {TIMES} times"),
        keeps("virtualservice", "name", "sentences", "spec", "http", 0, "route", 0, "destination", "subset"),
        keeps("deployment", "name-v2", "sentences", "spec", "template"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch destinationrule name -n sentences --type json "
        """-p '[{"op": "add", "path": "/spec/subsets/0/labels", "value": {"version": "v1"}}]'"""
    ),
    cause=(
        "The subset stable had no labels. A selector without labels selects everything, here as everywhere in "
        "Kubernetes, so the route led to both versions."
    ),
    hints=(
        "Which endpoints has the subset? lab.proxy_config('endpoints', 'callers/curl') against lab.pods('sentences').",
        "A subset is a name for labels. Which labels does this one have?",
    ),
)
