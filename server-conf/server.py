# Python's ssl module with a key that stays in a Strongroom partition, used as it is by the tests. Start it with
#
#     OPENSSL_CONF=/etc/strongroom/openssl.cnf python3 server.py
#
# A program that you already have needs the variable, and as `keyfile` the reference file instead of the key: the key's
# name, which is no secret. Make it with
#
#     strongroom key reference web --out /etc/strongroom/web.ref.pem

import http.server
import ssl


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = b"<!doctype html><title>Python</title><p>A page from Python.\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_2
context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
# The chain: the server's certificate first, then the intermediate ones.
context.load_cert_chain("/etc/strongroom/web.crt", keyfile="/etc/strongroom/web.ref.pem")

server = http.server.ThreadingHTTPServer(("", 443), Page)
# Each connection's handshake is made in its own thread, not in the one that accepts.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
