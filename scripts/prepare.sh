# Sourced by the launchers: finds the repository, installs its npm packages when they are missing or stale, and names its Bun.
# Sets: root (the repository), bun (the program). UV_THREADPOOL_SIZE must be in the environment at exec: with the default of two
# threads on two cores, two slow reads starve every other one.
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
bun=$root/node_modules/bun/bin/bun.exe
export UV_THREADPOOL_SIZE=16

packages_installed() {
  [ -x "$bun" ] && cmp -s "$root/package-lock.json" "$root/node_modules/.installed-lock.json"
}

install_packages() {
  command -v npm >/dev/null || {
    echo "npm is missing: install Node.js 20 or newer with npm, then run this again" >&2
    exit 1
  }
  echo "installing npm packages ..." >&2
  # Not `npm ci`: it empties node_modules first, which would break what is running from it.
  local output
  if ! output=$(cd "$root" && npm install --no-progress --loglevel=error 2>&1) || [ ! -x "$bun" ]; then
    echo "$output" >&2
    echo "npm install failed in $root: is the registry reachable? try: cd $root && npm install" >&2
    exit 1
  fi
  cp "$root/package-lock.json" "$root/node_modules/.installed-lock.json"
}

if ! packages_installed; then
  # One installation at a time; whoever waited finds it done.
  exec 9>"$root/.install.lock"
  flock 9
  packages_installed || install_packages
  flock -u 9
  exec 9>&-
fi
