// Signatures as the guide's TypeScript example makes them: CryptoJS with the secret as a passphrase.
"use strict";

const fs = require("fs");
const CryptoJS = require("crypto-js");
const { version } = require("crypto-js/package.json");

const [, ...cases] = fs.readFileSync(0, "utf8").trimEnd().split("\n");
const vectors = cases.map((line) => {
  const [app_id, api_key, app_secret] = line.split("\t");
  const signature = CryptoJS.AES.encrypt(`${app_id}~${api_key}`, app_secret).toString();
  return JSON.stringify({ client: "crypto-js", version, app_id, api_key, app_secret, signature });
});
process.stdout.write(`[\n${vectors.join(",\n")}\n]\n`);
