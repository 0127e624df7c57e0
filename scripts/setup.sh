#!/usr/bin/env bash
# Makes .venv ready for every make target: finds a Python, creates the environment, installs the lock and this
# package. Does nothing, in milliseconds, when that was already done from the same lock and pyproject.
#
#   PYTHON=python3.13 scripts/setup.sh    use this interpreter, and make .venv anew if it holds another version
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=.venv
readonly stamp=$venv/.setup-stamp
readonly version_code='import sys; v = sys.version_info; print(f"{v[0]}.{v[1]}"); sys.exit(v < (3, 11))'

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Prints the version of interpreter $1; fails when it does not run (a shim of a version that is not active, a
# broken link) or is too old.
version_of() { "$1" -c "$version_code" 2>/dev/null </dev/null; }

# Prints the first interpreter that works: $PYTHON alone if given, else the newest on PATH. Every match on PATH is
# tried, since a dead shim may hide a working interpreter behind it.
find_python() {
  if [ -n "${PYTHON:-}" ]; then
    version_of "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a working Python 3.11 or newer; name another one."
    printf '%s\n' "$PYTHON"
    return
  fi
  local name path
  for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
    while IFS= read -r path; do
      if version_of "$path" >/dev/null; then printf '%s\n' "$path"; return; fi
    done < <(type -ap "$name")
  done
  fail "no working Python 3.11 or newer is on PATH; install one, or run: make PYTHON=/path/to/python ..."
}

# Debian ships `venv` without `ensurepip`; the missing half is in a package of its own for each version.
need_ensurepip() {
  local python=$1 package
  "$python" -c 'import ensurepip, venv' 2>/dev/null </dev/null && return
  package=python$(version_of "$python")-venv
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $package, which $python needs to create environments"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"; } >/dev/null </dev/null ||
      fail "apt-get could not install $package; install it by hand, or choose another interpreter with PYTHON=..."
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null </dev/null ||
    fail "$python cannot create environments; as root run: apt-get install $package"
}

# True when .venv runs, and is of the version that PYTHON asks for (any version where it asks for none).
venv_serves() {
  local held
  held=$(version_of "$venv/bin/python") || return 1
  [ -z "${PYTHON:-}" ] || [ "$held" = "$(version_of "$PYTHON")" ]
}

# What an installation depends on: changed content, not changed file times, asks for a new one.
fingerprint() { cat pyproject.toml requirements/dev.lock scripts/setup.sh | cksum; pwd -P; }

if venv_serves && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ]; then exit 0; fi

if ! venv_serves; then
  python=$(find_python)
  need_ensurepip "$python"
  say "creating $venv with Python $(version_of "$python") ($python)"
  "$python" -m venv --clear "$venv" </dev/null
fi

rm -f "$stamp"
say "installing the locked packages (once; takes about a minute)"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input -q)
"${pip[@]}" install --require-hashes -r requirements/dev.lock </dev/null
# The build tools are in the lock, so nothing is fetched outside its hashes.
"${pip[@]}" install --no-deps --no-build-isolation -e . </dev/null
fingerprint >"$stamp"
