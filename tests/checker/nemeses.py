"""Troubles. Each is a generator of the cluster and chance: what it does up to its `yield` begins the trouble, the yielded
number of seconds is how long it lasts, the rest ends it. Two may go on at a time."""
import base64
import http.client
import json

KEY = "litefs/test"  # as cluster_fixture's lease_section has it


def request(node, method, path, body=None, seconds=30):
    """(status, body) of a node's own API; (0, why) without an answer."""
    c = http.client.HTTPConnection("127.0.0.1", node.listen_port, timeout=seconds)
    try:
        c.request(method, path, body)
        r = c.getresponse()
        return r.status, r.read()
    except (OSError, http.client.HTTPException) as e:
        return 0, repr(e).encode()
    finally:
        c.close()


def any_up(cl, rng):
    """A node that runs; the primary as often as all others."""
    up = [n for n in cl.nodes if n.is_up()]
    return rng.choice(up + [n for n in up if n.is_primary()] * (len(up) - 1)) if up else None


def primary(cl):
    found = [n for n in cl.primaries() if n.is_up()]
    return found[0] if found else None


# --- in which nothing may be lost ---

def handoff(cl, rng):
    p = primary(cl)
    if p is not None:
        cl.note(f"handoff by {p.name}: {request(p, 'POST', '/handoff')}")
    yield rng.uniform(0.1, 2)


def promote(cl, rng):
    others = [n for n in cl.nodes if n.is_up() and not n.is_primary()]
    if others:
        n = rng.choice(others)
        cl.note(f"promote of {n.name}: {request(n, 'POST', '/promote')}")
    yield rng.uniform(0.1, 2)


def demote(cl, rng):
    p = primary(cl)
    if p is not None:
        cl.note(f"demote of {p.name}: {request(p, 'POST', '/demote')}")
    yield rng.uniform(0.1, 2)


def terminate(cl, rng):
    node = any_up(cl, rng)
    if node is None:
        yield 0
        return
    cl.note(f"SIGTERM {cl.called(node)}")
    node.stop(120)
    yield rng.uniform(0, 2)
    node.start()


def remount(cl, rng):
    node = any_up(cl, rng)
    if node is not None:
        cl.note(f"restart {cl.called(node)}")
        node.stop(120)
        node.start()
    yield rng.uniform(0.1, 2)


def kill_client(cl, rng):
    cl.kill_client(rng)
    yield rng.uniform(0.1, 1)


def cut_replica(cl, rng):
    """From the others; the lease stays where it is."""
    others = [n for n in cl.nodes if n.is_up() and not n.is_primary()]
    if not others:
        yield 0
        return
    node = rng.choice(others)
    cl.note(f"cut of the links to {node.name}")
    node.link.cut()
    yield rng.uniform(0.1, 2)
    node.link.heal()


# --- in which what was not sent yet may be ---

def kill(cl, rng):
    node = any_up(cl, rng)
    if node is None:
        yield 0
        return
    cl.note(f"SIGKILL {cl.called(node)}")
    node.kill(may_hang=True)
    yield rng.uniform(0, 4)
    node.start()


def pause(cl, rng):
    node = any_up(cl, rng)
    if node is None:
        yield 0
        return
    cl.note(f"SIGSTOP {cl.called(node)}")
    node.pause()
    yield rng.uniform(0.1, 5)
    cl.note(f"SIGCONT {node.name}")
    node.resume()


def cut(cl, rng):
    node = any_up(cl, rng)
    if node is None:
        yield 0
        return
    cl.note(f"cut of the links to {cl.called(node)}")
    node.link.cut()
    yield rng.uniform(0.1, 3)
    node.link.heal()


def stall(cl, rng):
    node = any_up(cl, rng)
    if node is None:
        yield 0
        return
    way = rng.choice(("there", "back"))
    cl.note(f"stall of the links to {cl.called(node)}, {way}")
    node.link.stall(way)
    yield rng.uniform(0.1, 5)
    node.link.heal()


def cut_lease(cl, rng):
    node = any_up(cl, rng)
    if node is None:
        yield 0
        return
    cl.note(f"cut of {cl.called(node)} from the lease service")
    node.lease_link.cut()
    yield rng.uniform(0.1, 5)
    node.lease_link.heal()


def lose_service(cl, rng):
    """It is there for nobody."""
    cl.note("the lease service stops")
    cl.server.pause()
    yield rng.uniform(0.5, 6)
    cl.note("the lease service goes on")
    cl.server.resume()


def invalidate(cl, rng):
    """The service ends the lease before its time."""
    how = rng.choice(("session", "key"))
    cl.note(f"invalidation of the lease by its {how}: {INVALIDATE[cl.backend](cl.server, how)}")
    yield rng.uniform(0.5, 4)


def invalidate_consul(server, how):
    status, body = server.get(f"/v1/kv/{KEY}")
    if status != 200:
        return status
    if how == "key":
        return delete_consul(server)
    session = json.loads(body)[0].get("Session")
    return server.put(f"/session/destroy/{session}") if session else "no session"


def delete_consul(server):
    c = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=10)
    try:
        c.request("DELETE", f"/v1/kv/{KEY}")
        return c.getresponse().status
    finally:
        c.close()


def invalidate_etcd(server, how):
    key = base64.b64encode(KEY.encode()).decode()
    if how == "key":
        return server.post("kv/deleterange", key=key).get("deleted", 0)
    kvs = server.post("kv/range", key=key).get("kvs", [])
    return server.post("lease/revoke", ID=kvs[0]["lease"]) if kvs and "lease" in kvs[0] else "no lease"


INVALIDATE = {"consul": invalidate_consul, "etcd": invalidate_etcd}

GENTLE = {f.__name__: f for f in (handoff, promote, demote, terminate, remount, kill_client, cut_replica)}
LOSSY = {f.__name__: f for f in (kill, pause, cut, stall, cut_lease, lose_service, invalidate)}
ALL = {**GENTLE, **LOSSY}
