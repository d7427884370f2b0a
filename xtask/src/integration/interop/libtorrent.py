"""libtorrent as a client without a face: `ROLE TORRENT FOLDER IP:PORT` runs until it is ended,
`info-hash TORRENT` and `create DATA TRACKER TORRENT` do what they say."""

import os
import sys
import time

import libtorrent as lt


def info_of(torrent):
    return lt.torrent_info(torrent)


def serve(torrent, folder, listen):
    session = lt.session({
        "listen_interfaces": listen,
        "outgoing_interfaces": listen.rsplit(":", 1)[0],
        "allow_multiple_connections_per_ip": True,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "in_enc_policy": 1,
        "out_enc_policy": 1,
        "alert_mask": lt.alert.category_t.error_notification
        | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.peer_notification
        | lt.alert.category_t.status_notification,
    })
    parameters = lt.add_torrent_params()
    parameters.ti = info_of(torrent)
    parameters.save_path = folder
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(parameters)
    shown = None
    while True:
        for alert in session.pop_alerts():
            print(alert.what(), alert.message(), flush=True)
        status = handle.status()
        state = (str(status.state), round(status.progress, 3), status.num_peers)
        if state != shown:
            shown = state
            print(*state, flush=True)
        time.sleep(0.1)


def create(data, tracker, torrent):
    storage = lt.file_storage()
    lt.add_files(storage, data)
    maker = lt.create_torrent(storage, flags=lt.create_torrent.v1_only)
    maker.add_tracker(tracker)
    lt.set_piece_hashes(maker, os.path.dirname(data))
    with open(torrent, "wb") as file:
        file.write(lt.bencode(maker.generate()))


role, *arguments = sys.argv[1:]
if role == "info-hash":
    print(info_of(*arguments).info_hash())
elif role == "create":
    create(*arguments)
else:
    serve(*arguments)
