# Sourced by the build scripts: a second apt, private to a folder, that sees Debian 13 for riscv64.
#
#   riscv64_apt FOLDER          prepare it (indexes are fetched once) and export APT_CONFIG
#   riscv64_fetch FOLDER NAME   download a package into FOLDER/debs; prints the file
#   riscv64_mirror              the archive in use
#
# The archive is the one that this machine's own sources name, and apt checks its signatures with
# Debian's own keys (package debian-archive-keyring).

suite=trixie

riscv64_mirror() {
    env -u APT_CONFIG apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}

riscv64_apt() {
    apt=$(mkdir -p "$1" && cd "$1" && pwd)
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/empty" "$apt/debs"
    : >"$apt/state/status"
    mirror=$(riscv64_mirror)
    [ -n "$mirror" ] || { echo "no Debian archive among this machine's apt sources" >&2; return 1; }
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
APT::Architecture "riscv64";
APT::Architectures { "riscv64"; };
APT::Sandbox::User "root";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "$apt/empty";
Dir::Etc::PreferencesParts "$apt/empty";
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
END
    export APT_CONFIG="$apt/apt.conf"
    [ -n "$(ls "$apt/state/lists" | grep Packages)" ] || apt-get -qq update
}

riscv64_fetch() {
    (cd "$1/debs" && apt-get -qq download "$2" >/dev/null && ls "$PWD/$2"_*.deb | head -n 1)
}
