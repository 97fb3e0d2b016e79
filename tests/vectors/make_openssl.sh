#!/bin/sh
# Signatures in the salted layout by OpenSSL itself, whose key derivation CryptoJS copies.
# It warns on stderr that this derivation is an old one.
set -eu

version=$(openssl version | cut -d ' ' -f 2)
separator=$(printf '[\n_')
tail -n +2 | while IFS='	' read -r app_id api_key app_secret; do
	signature=$(printf %s "$app_id~$api_key" |
		openssl enc -aes-256-cbc -md md5 -base64 -A -pass "pass:$app_secret")
	# No case holds a character that JSON would have escaped.
	printf '%s{"client":"openssl","version":"%s","app_id":"%s","api_key":"%s","app_secret":"%s","signature":"%s"}' \
		"${separator%_}" "$version" "$app_id" "$api_key" "$app_secret" "$signature"
	separator=$(printf ',\n_')
done
printf '\n]\n'
