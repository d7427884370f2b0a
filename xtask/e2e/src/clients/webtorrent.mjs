// webtorrent as a client without a face: MODULE TORRENT FOLDER PORT HOME PEER..

import fs from 'node:fs'

const [module, torrent, folder, port, home, ...peers] = process.argv.slice(2)
const { default: WebTorrent } = await import(module)
const client = new WebTorrent({
  dht: false, lsd: false, natUpnp: false, natPmp: false, utp: false, torrentPort: Number(port)
})
const added = client.add(fs.readFileSync(torrent), { path: folder })
added.on('infoHash', () => peers.forEach(peer => added.addPeer(peer)))
added.on('done', () => {
  fs.writeFileSync(`${home}/done`, '')
  client.destroy(() => process.exit(0))
})
fs.writeFileSync(`${home}/added`, '')
