"""libtorrent as a client without a face: `ROLE TORRENT FOLDER IP:PORT HOME PEER..` seeds until it is
ended, or downloads until all is there (HOME/added and HOME/done say when);
`info-hash TORRENT` and `create DATA TRACKER TORRENT` do what they say."""

import os
import sys

import libtorrent as lt


def info_of(torrent):
    return lt.torrent_info(torrent)


def serve(role, torrent, folder, listen, home, *peers):
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
        "unchoke_slots_limit": -1,
        "connections_limit": 1000,
        "listen_queue_size": 300,
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
    if role == "seed-unchecked":
        # Not its seed mode, which hashes every piece the first time it is asked for.
        parameters.have_pieces = [True] * parameters.ti.num_pieces()
    handle = session.add_torrent(parameters)
    for peer in peers:
        ip, port = peer.rsplit(":", 1)
        handle.connect_peer((ip, int(port)))
    touch(home, "added")
    shown = None
    while True:
        for alert in session.pop_alerts():
            if role == "download" and isinstance(alert, lt.torrent_finished_alert):
                touch(home, "done")
                return
            print(alert.what(), alert.message(), flush=True)
        status = handle.status()
        state = (str(status.state), round(status.progress, 3), status.num_peers)
        if state != shown:
            shown = state
            print(*state, flush=True)
        session.wait_for_alert(100)


def touch(home, name):
    open(os.path.join(home, name), "w").close()


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
    serve(role, *arguments)
