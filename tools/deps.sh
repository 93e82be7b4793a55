#!/usr/bin/env bash
# Install the Debian packages that the build and the tests need.
# --if-missing: do nothing when all are there already.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t packages < <(sed 's/#.*//' packaging/debian-packages.txt | awk 'NF {print $1}')
missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
run=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "deps: these Debian packages are missing; install them as root: ${missing[*]}" >&2
        exit 1
    }
    run=(sudo)
fi
echo "deps: installing ${missing[*]}" >&2
"${run[@]}" apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
