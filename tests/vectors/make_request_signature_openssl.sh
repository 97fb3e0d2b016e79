#!/bin/sh
# Signatures by OpenSSL over the text that the case says is signed, written down by hand.
set -eu

version=$(openssl version | cut -d ' ' -f 2)
separator=$(printf '[\n_')
tail -n +2 | while IFS='	' read -r name secret_key _api_key _payload signed; do
	key=$(printf %s "$secret_key" | od -An -v -tx1 | tr -d ' \n')
	signature=$(printf %s "$signed" | openssl mac -digest SHA256 -macopt "hexkey:$key" -binary HMAC | openssl base64 -A)
	# No name holds a character that JSON would have escaped.
	printf '%s{"client":"openssl","version":"%s","case":"%s","signature":"%s"}' \
		"${separator%_}" "$version" "$name" "$signature"
	separator=$(printf ',\n_')
done
printf '\n]\n'
