"""A server that speaks first, behind a port whose protocol has to be guessed."""

from labkit.checks.expecting import keeps
from labkit.course import World
from labkit.course.acts import apply
from labkit.drills.expecting import prints
from labkit.drills.model import Drill
from labkit.drills.places import CALLER, broken, repaired

NAME = "server-speaks-first"
COMMAND = "sleep 1 | curl -s --max-time 2 telnet://greeter.greeter:2525"

DRILL = Drill(
    name=NAME,
    title="It connects, and then nobody says a word",
    story=(
        "greeter is one of the servers that speak first, as databases and mail do: whoever connects is greeted with "
        f"220. Since its Service was written anew, callers/curl connects and waits: '{COMMAND}' in its container "
        "prints nothing. Both have sidecars, and the pods are ready."
    ),
    world=World(applications=("greeter", "callers")),
    breaks=apply(broken(NAME)),
    healed=(
        prints(CALLER, COMMAND, "220 greeter", "connects to greeter"),
        keeps("service", "greeter", "greeter", "spec", "ports", 0, "targetPort"),
    ),
    repair=apply(repaired(NAME)),
    shortest=(
        "kubectl patch service greeter -n greeter --type json "
        """-p '[{"op": "replace", "path": "/spec/ports/0/name", "value": "tcp-greeter"}]'"""
    ),
    cause=(
        "The port's name, greeter, says no protocol. So the proxies wait for the client's first bytes, to find out, "
        "while the client waits for the server's. A name that begins with tcp- (or mysql-, or appProtocol) ends that."
    ),
    hints=(
        "Who waits for whom? The server greets at once when it is asked within its own pod.",
        "What does the mesh take port 2525 for? lab.describe('greeter/greeter'), and compare the port's name.",
    ),
)
