#!/bin/bash
# chroot_test.sh: a stranger's first minutes, in a fresh Debian 12 with nothing but git and make:
#   1  `make build` in a clean clone installs, fetches and builds what is needed
#   2  a second `make build` does nothing, prints nothing and needs no network
#   3  `make run` starts (no network, no GPU: the demo), the printed address answers, the printed submit
#      command works as printed, Ctrl-C ends it
# Takes this machine's own apt sources, proxy and certificates. The base system and the downloaded
# packages are kept in ~/.cache/drover/chroot, so that later runs only unpack. Needs root.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/drover/chroot
release=bookworm

number=0
bad=0
ok() { number=$((number + 1)) && echo "ok $number - $1"; }
not_ok() {
    number=$((number + 1))
    bad=1
    echo "not ok $number - $1"
    [ -z "${2:-}" ] || tail -n 40 "$2" | sed 's/^/# /'
}
finish() {
    echo "1..$number"
    exit $bad
}
skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}

[ "$(id -u)" = 0 ] || skip_all "chroot needs root"
command -v debootstrap >/dev/null || skip_all "debootstrap is not installed"
unshare --mount --pid --net --fork true 2>/dev/null || skip_all "no mount, pid or network namespaces here"
[ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = $release ] ||
    skip_all "this machine is not Debian $release, so its apt sources do not fit"

work=$(mktemp -d "${TMPDIR:-/tmp}/drover-chroot.XXXXXX")
root=$work/root
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir -p "$cache/archives/partial" "$cache/npm" "$root"

# --- the base system
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $release" | head -n 1)
[ -n "$mirror" ] || skip_all "apt names no source for $release"
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
[ -z "${http_proxy:-}" ] || export http_proxy
[ -z "${https_proxy:-}" ] || export https_proxy
base=$cache/$release-$(dpkg --print-architecture).tar
if [ ! -f "$base" ]; then
    if ! debootstrap --variant=minbase "$release" "$root" "$mirror" >"$work/debootstrap.log" 2>&1; then
        not_ok "debootstrap" "$work/debootstrap.log"
        finish
    fi
    tar -C "$root" --one-file-system -cf "$base.$$" . && mv "$base.$$" "$base"
else
    tar -C "$root" -xpf "$base"
fi

# --- how this machine reaches the outside: sources, proxy, names, certificates
copy() { for file in "$@"; do [ ! -e "$file" ] || cp -aL --parents "$file" "$root"; done; }
rm -f "$root"/etc/apt/sources.list
copy /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources \
    /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/apt/trusted.gpg.d /etc/apt/keyrings \
    /usr/share/keyrings /etc/resolv.conf /etc/hosts
for file in $(grep -lE '^ *Acquire::(http|https)' /etc/apt/apt.conf.d/* 2>/dev/null); do copy "$file"; done
# Certificates of this machine (a proxy in between may have its own); the default path of Debian.
copy /usr/local/share/ca-certificates
trusted=/etc/ssl/certs/ca-certificates.crt
[ ! -f $trusted ] || install -D -m 644 $trusted "$root/usr/local/share/drover-test/trusted.pem"
registry=$(cd / && npm config get registry 2>/dev/null || true)
cat >"$root/usr/sbin/policy-rc.d" <<'END'
#!/bin/sh
exit 101
END
chmod 755 "$root/usr/sbin/policy-rc.d"

git -c safe.directory='*' clone -q --depth 1 "file://$top" "$root/drover"
dirty=$(git -c safe.directory='*' -C "$top" status --porcelain | wc -l)
[ "$dirty" = 0 ] || echo "# $dirty changed files of this folder are not committed, so not tested here"

# inside NETWORK COMMAND: a shell line in /drover of the chroot, in namespaces of its own, so that
# nothing that it starts or mounts is left behind. NETWORK: outside, or loopback (nothing else).
inside() {
    local network=$1
    shift
    local isolate=
    [ "$network" = outside ] || isolate=--net
    unshare --mount --propagation private --pid --kill-child --fork $isolate bash -euc '
        root=$1 kept=$2 line=$3
        if [ "$4" = loopback ]; then python3 -c "
import fcntl, socket, struct
s = socket.socket(); r = struct.pack(\"16sH14s\", b\"lo\", 1, b\"\")
fcntl.ioctl(s, 0x8914, r)"; fi
        mount -t proc proc "$root/proc"
        mount --bind "$kept/archives" "$root/var/cache/apt/archives"
        mkdir -p "$root/root/.npm"
        mount --bind "$kept/npm" "$root/root/.npm"
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
            ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
            ${5:+npm_config_registry="$5"} NODE_EXTRA_CA_CERTS=/usr/local/share/drover-test/trusted.pem \
            chroot "$root" sh -euc "cd /drover; $line"
    ' inside "$root" "$cache" "$*" "$network" "$registry"
}

# --- 1: what the README asks for, then make build
log=$work/log
if ! inside outside 'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends make' >"$log" 2>&1; then
    not_ok "a fresh $release installs make" "$log"
    finish
fi
began=$SECONDS
if inside outside 'make build' >"$log" 2>&1; then
    ok "make build on a fresh $release ($((SECONDS - began)) s)"
    sed 's/^/# /' "$log" | cut -c1-160
else
    not_ok "make build on a fresh $release" "$log"
    finish
fi
missing=
for program in drover drover-agent drover-shim; do [ -x "$root/drover/build/$program" ] || missing="$missing $program"; done
if [ -z "$missing" ]; then ok "the three programs are there"; else not_ok "the three programs are there (missing:$missing)"; fi

# --- 2: again, without a network
began=$SECONDS
if inside loopback 'make build' >"$log" 2>&1 && [ ! -s "$log" ]; then
    ok "a second make build does nothing ($((SECONDS - began)) s)"
else
    not_ok "a second make build does nothing, without a network" "$log"
fi

# --- 3: make run, the printed address, the printed command. One line of sh, run in the chroot.
cat >"$root/drover-first-minute" <<'END'
set -eu
cd /drover
: >/tmp/run.log
make run >/tmp/run.log 2>&1 &
server=$!
tries=0
until address=$(grep -oE 'http://127\.0\.0\.1:[0-9]+' /tmp/run.log | head -n 1) && [ -n "$address" ] &&
    node -e "fetch('$address/ready').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"; do
    tries=$((tries + 1))
    kill -0 $server 2>/dev/null && [ $tries -lt 150 ] || { echo "make run did not come up"; cat /tmp/run.log; exit 1; }
    sleep 0.2
done
echo "STEP up"
sed 's/^/| /' /tmp/run.log
grep -q 'sign in' /tmp/run.log && echo "STEP told"
command=$(sed -n 's/^ *try  *//p' /tmp/run.log | head -n 1)
echo "| \$ $command"
sh -c "$command" >/tmp/submit.log 2>&1 && echo "STEP submitted" || echo "exit status $?"
sed 's/^/| /' /tmp/submit.log
grep -q 'accuracy' /tmp/submit.log && echo "STEP followed"
./build/drover ps >/tmp/ps.log 2>&1 || true
sed 's/^/| /' /tmp/ps.log
# Ctrl-C reaches the server, not make: the pid whose program is build/drover.
for entry in /proc/[0-9]*; do
    [ "$(readlink "$entry/exe")" = /drover/build/drover ] || continue
    [ "$(cut -d' ' -f4 <"$entry/stat")" = "$server" ] || [ "${entry#/proc/}" = "$server" ] || continue
    kill -INT "${entry#/proc/}"
done
wait $server && echo "STEP stopped" || echo "STEP stopped with status $?"
END
began=$SECONDS
inside loopback 'exec sh /drover-first-minute' >"$log" 2>&1 || true
grep '^| ' "$log" | sed 's/^| /# /' | cut -c1-160
step() {
    if grep -qx "STEP $1" "$log"; then ok "$2"; else
        not_ok "$2" "$log"
        log=/dev/null # told once
    fi
}
step up "make run comes up without a network and its address answers ($((SECONDS - began)) s in all)"
step told "it says how to sign in"
step submitted "the printed submit command works as printed"
step followed "and shows the job's own output"
step stopped "Ctrl-C ends it in order"
finish
