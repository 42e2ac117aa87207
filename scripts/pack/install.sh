#!/bin/sh
# Puts the model beside this file into the model cache of a Foundry Local, as the next version of its name:
#     sh install.sh [CACHE]
# Every file is held against SHA256SUMS. Nothing that is in the cache is changed, and no runtime sees half a model.
set -eu
unset CDPATH
name='@@name' pattern='@@pattern' packed='@@version'
say() { printf '%s\n' "$*"; }
fail() { say "error: $*" >&2; exit 1; }
sums() { if command -v sha256sum >/dev/null; then sha256sum -c -; else shasum -a 256 -c -; fi 2>&1; }

cd -- "$(dirname -- "$0")"
cache=${1-}
[ -n "$cache" ] || cache=$(foundry cache location 2>/dev/null | sed -n 's|^[^/]*\(/.*[^ ."]\)[ ."]*$|\1|p' | tail -n 1) || true
[ -n "$cache" ] || [ ! -d "$HOME/.foundry/cache/models" ] || cache=$HOME/.foundry/cache/models
[ -n "$cache" ] || fail 'no cache of a Foundry Local was found. Name its folder: sh install.sh CACHE'
said=$(sums <SHA256SUMS) || fail "this is not what was packed, fetch it again: $(say "$said" | grep -v ': OK$')"

case $cache in /*) ;; *) cache=$OLDPWD/$cache ;; esac
place=$cache/installed
[ ! -L "$place" ] || fail "$place is a link. Name another cache"
mkdir -p -- "$place"
for old in "$place/$name"-*; do
    if [ -f "$old/download.tmp" ]; then  # of an installation that runs, or that was killed
        read -r what pid <"$old/download.tmp" || true
        [ "$what" != install.sh ] || kill -0 "$pid" 2>/dev/null || rm -rf -- "$old"
    elif [ -f "$old/inference_model.json" ] && cmp -s SHA256SUMS "$old/SHA256SUMS"; then
        number=${old##*-}
        (cd -- "$old" && grep -v -e '  README.md$' -e '  inference_model.json$' -e '  install\.[ps]' SHA256SUMS | sums) >/dev/null ||
            fail "$old is this model, but not whole. Remove that folder, and install again"
        say "$name:$number is there already, in $old"
        exit 0
    fi
done

# The next number: after every one in a model's own file, and in the list of those that were registered.
last=$({ find "$cache" -name inference_model.json -exec cat {} + ; cat "$cache/foundry.local.modelinfo.json"; } 2>/dev/null |
    grep -io "\"$pattern:[0-9]\{1,9\}\"" | sed 's/.*:0*\([0-9]\)/\1/; s/"//' | sort -n | tail -n 1) || true
number=$((${last:-0} + 1))
until mkdir -- "$place/$name-$number" 2>/dev/null; do
    [ -e "$place/$name-$number" ] || fail "$place can't be written to"
    number=$((number + 1))
done
target=$place/$name-$number
trap 'rm -rf -- "$target"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
say "install.sh $$" >"$target/download.tmp"  # a runtime that scans the cache leaves a folder with this file alone

sed 's/^[0-9a-f]* [ *]//' SHA256SUMS | while IFS= read -r file; do
    case $file in install.sh | install.ps1) continue ;; esac
    mkdir -p -- "$(dirname -- "$target/$file")"
    cp -- "$file" "$target/$file"
done
said=$(cd -- "$target" && grep -v '  install\.[ps]' "$OLDPWD/SHA256SUMS" | sums) ||
    fail "the copy is not what was packed: $(say "$said" | grep -v ': OK$')"
if [ "$number" != "$packed" ]; then
    for file in README.md inference_model.json; do
        sed "s/$pattern:$packed/$name:$number/g" "$file" >"$target/$file"
    done
fi
cp -- SHA256SUMS "$target/SHA256SUMS"
sync
rm -- "$target/download.tmp"
trap - EXIT
say "$name:$number is in $target"
say 'A Foundry Local that scans its cache lists it. SDK 2.1 and newer want it registered once: README.md has the program.'
