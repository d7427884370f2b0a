"""libtorrent as a client without a face.

`seed|super-seed|seed-unchecked|seed-reporting TORRENT FOLDER IP:PORT HOME` runs until it is ended; the
last creates HOME/uploaded when it has sent payload;
`download TORRENT FOLDER IP:PORT HOME PEER..` and `check TORRENT FOLDER IP:PORT HOME THREADS` until all
is there, or checked;
`download-all JOBS IP:PORT HOME` until all torrents are there of which JOBS has a line each, TORRENT, a
tab, FOLDER: it waits for peers that call it, and prints `refused FOLDER` for torrents it does not take;
`dht-node IP:PORT NODE..` is a node of the DHT without budgets until it is ended, and pings each NODE;
`dht-nodes HOME IP:PORT..` are such nodes, which know each other;
`dht-ask IP:PORT NODE QUESTION` joins the DHT through NODE, asks what the JSON object QUESTION says (see
`ask`) and prints the answer, a JSON object;
`verdicts` says of each TORRENT whose path it reads whether it accepts it, a JSON object a line;
`info-hash TORRENT` and `create DATA TRACKER TORRENT [PIECE-LENGTH HOME]` do what they say.
A magnet link may stand for TORRENT where data is downloaded. The environment variable DISCOVERY is a
JSON object that says how further peers are looked for: `dht_nodes`, a list of IP:PORT, and `lsd`.
HOME/added appears when the work begins, HOME/done when it is done."""

import hashlib
import json
import os
import sys
import time

import libtorrent as lt


def info_of(torrent):
    return lt.torrent_info(torrent)


def touch(home, name):
    open(os.path.join(home, name), "w").close()


def address(text):
    ip, port = text.rsplit(":", 1)
    return ip.strip("[]"), int(port)


def session_at(listen, more):
    discovery = json.loads(os.environ.get("DISCOVERY", "{}"))
    nodes = discovery.get("dht_nodes", [])
    return lt.session({
        "listen_interfaces": listen,
        "outgoing_interfaces": address(listen)[0],
        "allow_multiple_connections_per_ip": True,
        "enable_dht": bool(nodes),
        "dht_bootstrap_nodes": ",".join(nodes),
        "enable_lsd": discovery.get("lsd", False),
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "unchoke_slots_limit": -1,
        "connections_limit": 1000,
        "listen_queue_size": 300,
        "in_enc_policy": 1,
        "out_enc_policy": 1,
        "alert_mask": lt.alert.category_t.error_notification
        | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.peer_notification
        | lt.alert.category_t.status_notification,
    } | more)


def add(session, torrent, folder, home=None, is_there=False, more_flags=0):
    if torrent.startswith("magnet:"):
        parameters = lt.parse_magnet_uri(torrent)
    else:
        parameters = lt.add_torrent_params()
        parameters.ti = info_of(torrent)
    parameters.save_path = folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    parameters.flags |= more_flags
    if is_there:
        # Not its seed mode, which hashes every piece the first time it is asked for.
        parameters.have_pieces = [True] * parameters.ti.num_pieces()
    if home:
        touch(home, "added")
    return session.add_torrent(parameters)


def follow(session, handle, done):
    """Prints what happens until an alert of the class `done` comes."""
    shown = None
    lonely_since = time.monotonic()
    while True:
        for alert in session.pop_alerts():
            if done and isinstance(alert, done):
                return
            print(alert.what(), alert.message(), flush=True)
        status = handle.status()
        state = (str(status.state), round(status.progress, 3), status.num_peers)
        if state != shown:
            shown = state
            print(*state, flush=True)
        if session.is_dht_running() and not status.num_peers and time.monotonic() > lonely_since + 5:
            # It asks the DHT once, perhaps before it knows any node, and then every quarter of an hour.
            handle.force_dht_announce()
            lonely_since = time.monotonic()
        session.wait_for_alert(100)


def seed(torrent, folder, listen, home, is_there=False, more_flags=0):
    session = session_at(listen, {})
    follow(session, add(session, torrent, folder, home, is_there, more_flags), None)


def seed_reporting(torrent, folder, listen, home):
    session = session_at(listen, {"alert_mask": lt.alert.category_t.upload_notification})
    handle = add(session, torrent, folder, home, is_there=True)
    follow(session, handle, lt.block_uploaded_alert)
    touch(home, "uploaded")
    follow(session, handle, None)


def download(torrent, folder, listen, home, *peers):
    # It calls peers when it ticks: not half a second after the start, to be fair.
    session = session_at(listen, {"tick_interval": 50})
    handle = add(session, torrent, folder, home)
    for peer in peers:
        handle.connect_peer(address(peer))
    follow(session, handle, lt.torrent_finished_alert)
    touch(home, "done")


def download_all(jobs, listen, home):
    session = session_at(listen, {"tick_interval": 50, "active_limit": -1, "active_downloads": -1})
    with open(jobs) as file:
        jobs = [line.rstrip("\n").split("\t") for line in file]
    handles = []
    for torrent, folder in jobs:
        try:
            handles.append(add(session, torrent, folder))
        except RuntimeError as error:
            print("refused", folder, flush=True)
            print(error, flush=True)
    touch(home, "added")
    shown = None
    while True:
        for alert in session.pop_alerts():
            if alert.category() & lt.alert.category_t.error_notification:
                print(alert.what(), alert.message(), flush=True)
        statuses = [handle.status() for handle in handles]
        left = [status.name for status in statuses if not status.is_seeding]
        if left != shown:
            shown = left
            print(len(left), "left", *map(ascii, left[:3]), flush=True)
        if not left:
            return
        session.wait_for_alert(100)


def start_node(listen, nodes, alerts=0):
    session = session_at(listen, {
        "enable_dht": True,
        "dht_bootstrap_nodes": "",
        # Far more than loopback carries, in bytes per second and in queries of one address.
        "dht_upload_rate_limit": 200_000_000,
        "dht_block_ratelimit": 1_000_000_000,
        "alert_mask": alerts,
    })
    while not session.is_dht_running():
        time.sleep(0.02)
    for node in nodes:
        session.add_dht_node(address(node))
    return session


def dht_node(listen, *nodes):
    _session = start_node(listen, nodes)
    while True:
        time.sleep(60)


def dht_nodes(home, *addresses):
    alerts = lt.alert.category_t.dht_notification
    sessions = [start_node(listen, [], alerts) for listen in addresses]
    wanted = min(len(sessions) - 1, 8)
    # They take other ids when they hear their addresses, and then they are unknown again.
    while any(node_count(session) < wanted for session in sessions):
        for listen, session in zip(addresses, sessions):
            for node in addresses:
                if node != listen:
                    session.add_dht_node(address(node))
    touch(home, "added")
    while True:
        time.sleep(60)


def node_count(session):
    session.post_dht_stats()
    session.wait_for_alert(1000)
    counts = [
        sum(bucket["num_nodes"] for bucket in alert.routing_table)
        for alert in session.pop_alerts() if isinstance(alert, lt.dht_stats_alert)
    ]
    return counts[-1] if counts else 0


def dht_ask(listen, node, question):
    category = lt.alert.category_t
    alerts = category.dht_notification | category.dht_operation_notification
    session = start_node(listen, [node], alerts)
    while node_count(session) == 0:
        time.sleep(0.1)
    print(json.dumps(ask(session, json.loads(question))))


def ask(session, question):
    """Asks the DHT for peers, or for an item; or puts one.

    `{"peers": HASH}`, `{"get": TARGET}`, `{"get_mutable": KEY, "salt": SALT, "seq": LEAST}`,
    `{"put": TEXT}`, `{"put_mutable": TEXT, "salt": SALT, "seed": KEY, "public": KEY}`. Hashes and
    keys are in hex."""
    salt = question.get("salt", "").encode()
    if "peers" in question:
        session.dht_get_peers(lt.sha1_hash(bytes.fromhex(question["peers"])))
        peers = answer(session, lt.dht_get_peers_reply_alert).peers()
        return {"peers": [f"{ip}:{port}" for ip, port in peers]}
    if "get" in question:
        session.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(question["get"])))
        return {"value": value_of(answer(session, lt.dht_immutable_item_alert).item)}
    if "get_mutable" in question:
        session.dht_get_mutable_item(bytes.fromhex(question["get_mutable"]), salt)
        # The first versions that arrive may be old ones. The end of the lookup, which is
        # authoritative, waits for nodes that are gone.
        while True:
            item = answer(session, lt.dht_mutable_item_alert)
            seq = part_of(item, "seq")
            if seq >= question["seq"] or part_of(item, "authoritative"):
                break
        return {"value": value_of(item.item), "seq": seq}
    if "put" in question:
        target = session.dht_put_immutable_item(question["put"].encode())
        return {"target": str(target), "stored": answer(session, lt.dht_put_alert).num_success}
    private, public = expanded(bytes.fromhex(question["seed"])), bytes.fromhex(question["public"])
    session.dht_put_mutable_item(private, public, question["put_mutable"].encode(), salt)
    return {"stored": answer(session, lt.dht_put_alert).num_success}


def expanded(seed):
    """Returns the private key of 64 bytes (RFC 8032, 5.1.5)."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 248
    key[31] = key[31] & 63 | 64
    return bytes(key)


def part_of(alert, name):
    return alert.item[name] if isinstance(alert.item, dict) else getattr(alert, name)


def value_of(item):
    # The older one describes the item.
    value = item["value"] if isinstance(item, dict) else item
    return value.decode() if isinstance(value, bytes) else value


def answer(session, kind):
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, kind):
                return alert


def check(torrent, folder, listen, home, threads):
    session = session_at(listen, {"hashing_threads": int(threads)})
    handle = add(session, torrent, folder, home)
    follow(session, handle, lt.torrent_checked_alert)
    touch(home, "done")
    assert handle.status().is_seeding, "not all is good"


def create(data, tracker, torrent, piece_length="0", home=None):
    storage = lt.file_storage()
    lt.add_files(storage, data)
    flags = lt.create_torrent.v1_only
    maker = lt.create_torrent(storage, piece_size=int(piece_length), flags=flags)
    maker.add_tracker(tracker)
    if home:
        touch(home, "added")
    lt.set_piece_hashes(maker, os.path.dirname(data))
    with open(torrent, "wb") as file:
        file.write(lt.bencode(maker.generate()))


def verdict(torrent):
    try:
        return {"info_hash": str(info_of(torrent).info_hash())}
    except (RuntimeError, OverflowError) as error:
        return {"error": str(error)}


role, *arguments = sys.argv[1:]
if role == "info-hash":
    print(info_of(*arguments).info_hash())
elif role == "verdicts":
    for line in sys.stdin:
        print(json.dumps(verdict(line.rstrip("\n"))))
elif role == "seed-unchecked":
    seed(*arguments, is_there=True)
elif role == "seed-reporting":
    seed_reporting(*arguments)
elif role == "super-seed":
    seed(*arguments, more_flags=lt.torrent_flags.super_seeding)
else:
    roles = {"seed": seed, "download": download, "download-all": download_all, "check": check}
    roles |= {"dht-node": dht_node, "dht-nodes": dht_nodes, "dht-ask": dht_ask, "create": create}
    roles[role](*arguments)
