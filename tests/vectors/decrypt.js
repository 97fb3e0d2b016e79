// Reads a signature and, on the next line, the app secret; prints what was signed. As the guide's clients do
// it: `node decrypt.js salted` with the secret as CryptoJS passphrase, `raw` with IV and key as they are.
"use strict";

const fs = require("fs");
const CryptoJS = require("crypto-js");

function salted(signature, secret) {
  return CryptoJS.AES.decrypt(signature, secret);
}

function raw(signature, secret) {
  const received = CryptoJS.enc.Base64.parse(signature);
  const iv = CryptoJS.lib.WordArray.create(received.words.slice(0, 4), 16);
  const ciphertext = CryptoJS.lib.WordArray.create(received.words.slice(4), received.sigBytes - 16);
  return CryptoJS.AES.decrypt({ ciphertext }, CryptoJS.enc.Utf8.parse(secret), { iv });
}

const decrypt = { salted, raw }[process.argv[2]];
const [signature, secret] = fs.readFileSync(0, "utf8").split("\n");
process.stdout.write(decrypt(signature, secret).toString(CryptoJS.enc.Utf8));
