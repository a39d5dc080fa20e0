// Node.js 18 or newer with a key that stays in a Strongroom partition, used as it is by the tests. Start it with
//
//     node --openssl-config=/etc/strongroom/openssl.cnf --openssl-shared-config node.js
//
// (the second flag lets Node.js read the section that all programs read). A program that you already have needs the two
// flags, and as `key` the reference file instead of the key: the key's name, which is no secret. Make it with
//
//     strongroom key reference web --out /etc/strongroom/web.ref.pem

const fs = require('node:fs');
const https = require('node:https');

const options = {
  // The chain: the server's certificate first, then the intermediate ones.
  cert: fs.readFileSync('/etc/strongroom/web.crt'),
  key: fs.readFileSync('/etc/strongroom/web.ref.pem'),
  minVersion: 'TLSv1.2',
  ciphers: 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:ECDHE+AESGCM:ECDHE+CHACHA20',
};

const server = https.createServer(options, (request, response) => {
  response.setHeader('Content-Type', 'text/html');
  response.end('<!doctype html><title>Node.js</title><p>A page from Node.js.\n');
});

server.listen(443, () => {
  // The key is loaded as root and used as www-data: the partition admits root, the key names www-data.
  if (process.getuid() === 0) {
    process.setgid('www-data');
    process.setuid('www-data');
  }
});
