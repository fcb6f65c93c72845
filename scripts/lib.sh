# Shell functions that the other scripts share; sourced, not run.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, or fails where that is not possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE…: installs Debian packages, or says exactly what to install and fails.
apt_install() {
    local hint="install these packages and try again: $*"
    have apt-get || die "this is not Debian or Ubuntu; $hint (Debian's names; FFmpeg 5.1 or newer)"
    say "setup: installing $*; this may take two minutes"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -q) log
    log=$(mktemp)
    # An update may fail for one repository of several; what counts is whether the packages can be installed.
    as_root "${apt[@]}" update >"$log" 2>&1 || say "setup: apt-get update did not succeed, going on"
    if ! as_root "${apt[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1; then
        tail -n 15 "$log" >&2
        die "could not install system packages (log: $log); as root: apt-get install --no-install-recommends $*"
    fi
    rm -f "$log"
}
