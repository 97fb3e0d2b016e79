#!/bin/bash
# The other script that a user writes: curl in a loop, several at once.
# shell.sh URL INBOX OUTBOX DONE AT_ONCE, for WAVs that lie in the inbox itself.
set -eu
export url=$1 outbox=$3 done=$4
token=$(curl -sSf -u sandbox-app:sandbox-key -d grant_type=client_credentials "$url/oauth/token")
token=${token#*\"access_token\":\"}
export token=${token%%\"*}

transcribe() {
    local reply address id name=${1##*/}
    reply=$(curl -sSf -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
        -d '{"mimeType":"audio/wav"}' "$url/api/v1/generate-presigned-url") || return
    address=${reply#*\"presignedUrl\":\"} id=${reply#*\"requestId\":\"}
    curl -sSf -H 'Content-Type: audio/wav' -T "$1" "${address%%\"*}" || return
    curl -sSf -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
        -d "{\"requestId\":\"${id%%\"*}\"}" -o "$outbox/${name%.wav}.json" "$url/api/v1/get-transcription" || return
    mv "$1" "$done/"
}
export -f transcribe
find "$2" -name '*.wav' -print0 | xargs -0 -P "$5" -n 8 bash -c 'for file; do transcribe "$file" || exit 255; done' shell
