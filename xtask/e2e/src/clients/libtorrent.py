"""libtorrent as a client without a face.

`seed|super-seed|seed-unchecked|seed-reporting TORRENT FOLDER IP:PORT HOME` runs until it is ended; the
last creates HOME/uploaded when it has sent payload;
`download TORRENT FOLDER IP:PORT HOME PEER..` and `check TORRENT FOLDER IP:PORT HOME THREADS` until all
is there, or checked;
`download-all JOBS IP:PORT HOME` until all torrents are there of which JOBS has a line each, TORRENT, a
tab, FOLDER: it waits for peers that call it, and prints `refused FOLDER` for torrents it does not take;
`dht-node IP:PORT NODE..` is a node of the DHT without budgets until it is ended, and pings each NODE;
`verdicts` says of each TORRENT whose path it reads whether it accepts it, a JSON object a line;
`info-hash TORRENT` and `create DATA TRACKER TORRENT [PIECE-LENGTH HOME]` do what they say.
A magnet link may stand for TORRENT where data is downloaded.
HOME/added appears when the work begins, HOME/done when it is done."""

import json
import os
import sys
import time

import libtorrent as lt


def info_of(torrent):
    return lt.torrent_info(torrent)


def touch(home, name):
    open(os.path.join(home, name), "w").close()


def session_at(listen, more):
    return lt.session({
        "listen_interfaces": listen,
        "outgoing_interfaces": listen.rsplit(":", 1)[0],
        "allow_multiple_connections_per_ip": True,
        "enable_dht": False,
        "enable_lsd": False,
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
        ip, port = peer.rsplit(":", 1)
        handle.connect_peer((ip, int(port)))
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


def dht_node(listen, *nodes):
    session = session_at(listen, {
        "enable_dht": True,
        "dht_bootstrap_nodes": "",
        # Far more than loopback carries, in bytes per second and in queries of one address.
        "dht_upload_rate_limit": 200_000_000,
        "dht_block_ratelimit": 1_000_000_000,
        "alert_mask": 0,
    })
    while not session.is_dht_running():
        time.sleep(0.02)
    for node in nodes:
        ip, port = node.rsplit(":", 1)
        session.add_dht_node((ip, int(port)))
    while True:
        time.sleep(60)


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
    roles = {"seed": seed, "download": download, "download-all": download_all}
    (roles | {"check": check, "dht-node": dht_node, "create": create})[role](*arguments)
