"""Signatures as the guide's Python example makes them: PyCryptodome with the secret's bytes as the key."""

import base64
import json
import sys

from Crypto import __version__
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

cases = sys.stdin.buffer.read().decode().splitlines()[1:]
vectors = []
for case in cases:
    app_id, api_key, app_secret = case.split("\t")
    if len(app_secret.encode()) not in {16, 24, 32}:
        continue
    cipher = AES.new(app_secret.encode(), AES.MODE_CBC)
    ciphertext = cipher.encrypt(pad(f"{app_id}~{api_key}".encode(), AES.block_size))
    vector = {
        "client": "pycryptodome",
        "version": __version__,
        "app_id": app_id,
        "api_key": api_key,
        "app_secret": app_secret,
        "signature": base64.b64encode(cipher.iv + ciphertext).decode(),
    }
    vectors.append(json.dumps(vector, ensure_ascii=False))
sys.stdout.buffer.write("[\n{}\n]\n".format(",\n".join(vectors)).encode())
