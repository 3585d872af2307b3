"""Gives a Python program the network of its pod. Python imports this file by itself at start (PYTHONPATH).

There are no network namespaces here, so "all addresses" and "localhost" would be those of the whole machine, and
no /etc/hosts of the pod could name its services. Instead the socket methods are translated by `hosts.json`, which
the node writes and rewrites:

    bind     0.0.0.0, ::, localhost and the pod's IP  ->  where this pod's programs listen ("own")
    connect  localhost                                ->  the same address; the proxy's own ports -> the pod's IP,
                                                  and its admin port inside of the pod
    connect  a service by name or ClusterIP           ->  its ClusterIP, or the pod's own proxy when redirected
    connect  what the mesh does not know              ->  unchanged; under REGISTRY_ONLY the proxy, which refuses it
    ports    below 1024, which need privileges        ->  moved up by 20000, at both ends

It must be fast and must not break: without POD_HOSTS or without that file it changes nothing. Standard library only,
and `labkit` is not imported: the rules of `labkit.embedded.addresses` are repeated here (a test compares them).
"""

# mypy: ignore-errors
# ruff: noqa: PTH116, PTH123 - pathlib would cost every program of a pod 2 ms at its start

import os


def _install(path):
    import socket

    raw = {name: getattr(socket.socket, name) for name in ("bind", "connect", "connect_ex")}
    raw_getaddrinfo, raw_gethostbyname = socket.getaddrinfo, socket.gethostbyname
    raw_gethostbyaddr = socket.gethostbyaddr
    anywhere = {"", "0.0.0.0", "::", "0::0"}
    local = {"localhost", "127.0.0.1", "::1", "ip6-localhost", "localhost.localdomain"}
    hostname = os.environ.get("HOSTNAME") or socket.gethostname()
    bind_address_no_port = 24  # IP_BIND_ADDRESS_NO_PORT, ip(7): the port is chosen at connect, not reserved before
    seen = [None, None]  # what the file looked like when it was read, and its content

    def network():
        """The content of hosts.json, read again when it was replaced; None when there is none."""
        try:
            stat = os.stat(path)
        except OSError:
            return None
        mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if mark != seen[0]:
            import json

            try:
                with open(path, encoding="utf-8") as file:
                    net = json.load(file)
                net["ours"] = ".".join(net["pod_ip"].split(".")[:2]) + "."
                net["services"] = net["ours"] + "0."
                net["node_ip"] = net["services"] + "1"
            except (OSError, ValueError, KeyError):
                return seen[1]
            seen[0], seen[1] = mark, net
        return seen[1]

    def name_of(host):
        if isinstance(host, (bytes, bytearray)):
            host = bytes(host).decode("ascii", "replace")
        return host.rstrip(".").lower() if isinstance(host, str) else host

    def shifted(port):
        return port + 20000 if isinstance(port, int) and 0 < port < 1024 else port

    def lookup(net, host):
        """The address of a name that only this cluster knows, else None."""
        if host in local:
            return net["own"]
        if host == hostname.lower():
            return net["pod_ip"]
        return net["names"].get(host)

    def bind_target(net, host, port):
        host = name_of(host)
        if host in anywhere or host in local or host == net["pod_ip"] or host == hostname.lower():
            return net["own"], shifted(port)
        return (host, shifted(port)) if isinstance(host, str) and host.startswith(net["ours"]) else None

    def connect_target(net, host, port):
        host = name_of(host)
        if host in anywhere:
            host = "localhost"
        host = lookup(net, host) or host
        if isinstance(host, str) and host.startswith("::ffff:"):
            host = host[7:]
        if not isinstance(host, str):
            return None
        blocked = net.get("blocked") and isinstance(port, int)
        if not host.startswith(net["ours"]):
            return (net["pod_ip"], 15001) if blocked and not host.startswith("127.") else None
        if host == net["node_ip"]:
            return host, net["api_port"] if port == 443 else port
        if host == net["own"] and port == 15000 and net.get("admin"):
            return net["admin"], port
        if host == net["own"] and port in net["proxy_ports"]:
            return net["pod_ip"], port
        if net["redirected"] and host.startswith(net["services"]):
            host = net["pod_ip"].rpartition(".")[0] + "." + host.rpartition(".")[2]
        elif blocked and host not in (net["own"], net["pod_ip"]):
            return net["pod_ip"], 15001  # another pod by its address, which no registry names
        return host, shifted(port)

    def call(sock, method, address, translate):
        """Call the original method with the translated address, or unchanged when it is none of ours."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
            return raw[method](sock, address)
        net = network()
        target = translate(net, address[0], address[1]) if net and len(address) > 1 else None
        if target is None:
            return raw[method](sock, address)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return raw[method](sock, ("::ffff:" + target[0], target[1]))
        if sock.type == socket.SOCK_STREAM:
            if method != "bind":
                show_source(sock, net)
            elif target[1]:
                # A pod of its own would not see what a pod before it left in TIME_WAIT at this address.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                raw["bind"](sock, target)
                # The node may listen beside it and look at what arrives (labkit/embedded/wire). Said after the
                # address was taken, so that another program of the pod still finds it in use.
                return sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return raw[method](sock, target)

    def show_source(sock, net):
        """Let the other side see the pod's address as the source, as it would in a cluster."""
        try:
            if sock.getsockname()[1] == 0:
                sock.setsockopt(socket.IPPROTO_IP, bind_address_no_port, 1)
                raw["bind"](sock, (net["pod_ip"], 0))
        except OSError:
            pass  # the connection works without it

    def bind(self, address):
        return call(self, "bind", address, bind_target)

    def connect(self, address):
        return call(self, "connect", address, connect_target)

    def connect_ex(self, address):
        return call(self, "connect_ex", address, connect_target)

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        net = network()
        if net is None:
            return raw_getaddrinfo(host, port, family, type, proto, flags)
        name = name_of(host)
        if name is None or name == "":  # pods have IPv4 only
            name = "0.0.0.0" if flags & socket.AI_PASSIVE else "127.0.0.1"
            return raw_getaddrinfo(name, port, 0 if family == socket.AF_INET6 else family, type, proto, flags)
        found = lookup(net, name) if name not in ("127.0.0.1", "::1") else None
        if found is not None:
            if name in local:
                found = "127.0.0.1"  # translated when it is used: bind and connect differ
            if family == socket.AF_INET6:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return raw_getaddrinfo(found, port, socket.AF_INET, type, proto, flags)
        if isinstance(name, str) and name.endswith((".svc", ".cluster.local")):
            # Asking the machine's resolver could only take time: these names exist in this cluster or nowhere.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if net.get("blocked") and isinstance(name, str) and any(letter.isalpha() for letter in name):
            # It does not matter where this leads: the proxy takes it, and refuses it.
            return raw_getaddrinfo("240.240.255.254", port, socket.AF_INET, type, proto, flags)
        return raw_getaddrinfo(host, port, family, type, proto, flags)

    def gethostbyname(host):
        net = network()
        found = lookup(net, name_of(host)) if net else None
        return found or raw_gethostbyname(host)

    def gethostbyaddr(host):
        net = network()
        if net and isinstance(host, str) and (host in anywhere or host.startswith("127.")):
            # http.server asks this for every server; a resolver that does not answer would cost seconds.
            return (hostname if host in (net["own"], net["pod_ip"]) else host, [], [host])
        return raw_gethostbyaddr(host)

    socket.socket.bind, socket.socket.connect, socket.socket.connect_ex = bind, connect, connect_ex
    socket.getaddrinfo, socket.gethostbyname, socket.gethostbyaddr = getaddrinfo, gethostbyname, gethostbyaddr
    socket.gethostname = lambda: hostname


if os.environ.get("POD_HOSTS"):
    try:
        _install(os.environ["POD_HOSTS"])
    except Exception as error:
        import sys

        print("labkit: this program runs without its pod's network:", repr(error), file=sys.stderr)
