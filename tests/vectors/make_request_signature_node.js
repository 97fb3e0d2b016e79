// Signatures as a vendor's service in Node would make them, from nothing but the payload and the rule.
"use strict";

const crypto = require("crypto");
const fs = require("fs");

const UNSIGNED = ["eventName", "requestSignature"];

function text(value) {
  if (value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const [, ...cases] = fs.readFileSync(0, "utf8").trimEnd().split("\n");
const vectors = cases.map((line) => {
  const [name, secret_key, api_key, payload] = line.split("\t");
  const fields = Object.entries(JSON.parse(payload)).filter(([field]) => !UNSIGNED.includes(field));
  const signed = [...fields.map(([, value]) => text(value)), api_key].join("|");
  const signature = crypto.createHmac("sha256", secret_key).update(signed, "utf8").digest("base64");
  return JSON.stringify({ client: "node", version: process.version, case: name, signature });
});
process.stdout.write(`[\n${vectors.join(",\n")}\n]\n`);
