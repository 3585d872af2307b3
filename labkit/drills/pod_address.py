"""An application that calls a pod by its address, past its Service and past its own proxy's knowledge."""

from typing import Any

from labkit.checks.expecting import answered, has_mode
from labkit.course import World
from labkit.course.acts import apply, run
from labkit.drills.model import Drill
from labkit.drills.places import broken
from labkit.outcomes import Outcome

NAME = "pod-address"
PAGE = "http://web-frontend.customers/"


def _call(url: str, lab: Any) -> object:
    variables = [{"name": "CUSTOMERS_URL", "value": url}]
    found = lab.cluster.get("deployment", "web-frontend", "customers")
    containers = [{**found["spec"]["template"]["spec"]["containers"][0], "env": variables}]
    lab.cluster.patch(
        "deployment", "web-frontend", {"spec": {"template": {"spec": {"containers": containers}}}}, "customers"
    )
    return lab.wait_until_ready("customers/web-frontend")


def _by_address(lab: Any) -> object:
    return _call(f"http://{lab.address_of('customers/customers-v1')}:3000/", lab)


def _by_name(lab: Any) -> object:
    return _call("http://customers/", lab)


DRILL = Drill(
    name=NAME,
    title="Two sidecars, STRICT, and no customers",
    story=(
        f"web-frontend and customers both have sidecars. Since the namespace is STRICT, the page at {PAGE} cannot show "
        "the customers any more; it tells why in the words of a system call. STRICT stays."
    ),
    world=World(applications=("customers", "callers")),
    breaks=run(_by_address, apply(broken(NAME))),
    healed=(
        answered("callers/curl", PAGE, by=Outcome.MTLS),
        answered("callers/curl", "http://customers.customers/", by=Outcome.MTLS),
        has_mode("customers", "STRICT"),
    ),
    repair=_by_name,
    shortest="kubectl set env deployment/web-frontend -n customers CUSTOMERS_URL=http://customers/",
    cause=(
        "web-frontend called the pod by its address. A proxy knows Services, not addresses of pods: it passes such "
        "calls through as they are, in plaintext, and STRICT resets them. By the name of the Service it is mTLS."
    ),
    hints=(
        "customers answers callers/curl, but not web-frontend. What is different about the two calls?",
        "kubectl get deployment web-frontend -n customers -o yaml: whom does it call?",
    ),
)
