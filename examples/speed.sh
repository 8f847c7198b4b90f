#!/bin/sh
# Real work without a GPU: how fast this host's processors hash and encrypt, a few seconds long.
#   build/drover submit --follow -- sh examples/speed.sh
set -eu
command -v openssl >/dev/null || {
    echo "this example needs the program openssl" >&2
    exit 1
}
openssl speed -seconds 1 -bytes 16384 sha256 2>&1
openssl speed -seconds 1 -bytes 16384 -evp aes-256-gcm 2>&1
