# shellcheck shell=bash
#
# apt.sh - sourced by the other scripts here: Debian packages, by name, into the cache.
#
# apt runs on a state of its own below $GUESTS/apt, so the host's lists, its dpkg and
# its architectures stay as they are, and root is not needed.  Which mirror is used,
# the host's own sources say.  A package is trusted because apt has checked the
# archive's signature; besides, packages.sum has its SHA-256 from when it was last
# looked at, and a package of the same version with other bytes is refused.

set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GUESTS=${GUESTS:-${XDG_CACHE_HOME:-$HOME/.cache}/emu/guests}
mkdir -p "$GUESTS/debs"
GUESTS=$(cd "$GUESTS" && pwd)
RELEASE=bookworm

die() { echo "${0##*/}: $*" >&2; exit 1; }
note() { echo "${0##*/}: $*" >&2; }
need() {
  local tool
  for tool; do command -v "$tool" >/dev/null || die "$tool not found; run: make setup"; done
}

# lock_cache: from here to the script's end, one at a time in this cache, whoever shares it.
lock_cache() {
  exec 9>"$GUESTS/lock"
  flock 9
}

# mirrors: the host's Debian sources, "URI suite" a line.
mirrors() {
  # shellcheck disable=SC2016  # the dollars are apt's
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v r="$RELEASE" '$3 == "main" && ($2 == r || index($2, r "-") == 1) { print $1, $2 }' | sort -u
}

# mirror: the URI that has the release itself.
mirror() {
  mirrors | awk -v r="$RELEASE" '$2 == r { print $1; exit }'
}

apt_private() { # apt-get|apt-cache arguments...
  local tool=$1 dir=$GUESTS/apt
  shift
  "$tool" -qq -o "Dir::State=$dir/state" -o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache" \
    -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin \
    -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=i386 \
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o APT::Update::Post-Invoke-Success= "$@"
}

apt_setup() { # once a day at most
  local dir=$GUESTS/apt key=/usr/share/keyrings/debian-archive-keyring.gpg signed='' list
  [[ -z $(find "$dir/updated" -mmin -1440 2>/dev/null) ]] || return 0
  need apt-get dpkg-deb flock
  list=$(mirrors)
  [[ -n $(mirror) ]] || die "no Debian $RELEASE in the host's apt sources (or run apt-get update first)"
  [[ ! -r $key ]] || signed=" signed-by=$key"
  mkdir -p "$dir"/state/lists/partial "$dir"/cache/archives/partial
  : >"$dir/status"
  {
    # i386 from the release alone: mirrors are often out of step in its security suite.
    awk -v r="$RELEASE" -v s="$signed" \
      '{ print "deb [arch=amd64" ($2 == r ? ",i386" : "") s "]", $1, $2, "main" }' <<<"$list"
    echo "deb [arch=amd64$signed] $(mirror) $RELEASE-backports main"
  } | sort -u >"$dir/sources.list"
  note "reading the package lists"
  apt_private apt-get update >&2
  touch "$dir/updated"
}

# kernel_package META ARCH [RELEASE]: the package that a meta package stands for now.
kernel_package() {
  apt_private apt-cache ${3:+-t "$3"} depends --important "$1:$2" |
    awk '$1 == "Depends:" { sub(/:.*/, "", $2); print $2; exit }'
}

# fetch PACKAGE ARCH [RELEASE]: prints the path of the .deb, fetched unless it is there.
fetch() {
  local package=$1 arch=$2 version file sum known
  version=$(apt_private apt-cache ${3:+-t "$3"} policy "$package:$arch" |
    awk '$1 == "Candidate:" { print $2; exit }')
  if [[ -z $version || $version == '(none)' ]]; then # architecture "all" answers without one
    version=$(apt_private apt-cache ${3:+-t "$3"} policy "$package" |
      awk '$1 == "Candidate:" { print $2; exit }')
  fi
  [[ -n $version && $version != '(none)' ]] || die "no package $package:$arch here"
  file=$(find "$GUESTS/debs" -name "${package}_${version//:/%3a}_*.deb" \( -name "*_$arch.deb" -o -name '*_all.deb' \))
  if [[ -z $file ]]; then
    note "fetching $package:$arch $version"
    mkdir -p "$GUESTS/debs/new"
    (cd "$GUESTS/debs/new" && { apt_private apt-get download "$package:$arch=$version" 2>/dev/null ||
      apt_private apt-get download "$package=$version"; }) >&2 # the second form: architecture "all"
    file=$(find "$GUESTS/debs/new" -name "${package}_*.deb")
    [[ -n $file ]] || die "apt fetched no $package:$arch $version"
    mv "$file" "$GUESTS/debs/"
    file=$GUESTS/debs/${file##*/}
  fi
  sum=$(sha256sum <"$file")
  sum=${sum%% *}
  known=$(awk -v f="${file##*/}" '$2 == f { print $1 }' "$HERE/packages.sum" "$GUESTS/debs/SHA256SUMS" 2>/dev/null | sort -u)
  if [[ -z $known ]]; then
    note "new: ${file##*/} is in no list yet; recorded in the cache (apt vouches for it)"
    echo "$sum  ${file##*/}" >>"$GUESTS/debs/SHA256SUMS"
  elif [[ $known != "$sum" ]]; then
    mv "$file" "$file.bad"
    die "${file##*/}: SHA-256 is $sum, recorded was $known; kept as $file.bad"
  fi
  echo "$file"
}

# current OUT INPUT...: whether OUT was made from these inputs.  By content, because a fresh
# worktree's files are newer than a shared cache.  If so, OUT is touched, for make.
current() {
  local out=$1
  shift
  INPUTS=$(sha256sum "$@" | sed 's|  .*/|  |')
  [[ -e $out && $INPUTS == "$(cat "$out.from" 2>/dev/null)" ]] || return 1
  touch "$out"
}

# made OUT: OUT.new becomes OUT, made from the inputs that current was asked about.
made() {
  mv "$1.new" "$1"
  echo "$INPUTS" >"$1.from"
}

# archive DIR: the tree as a cpio archive on stdout; same tree, same bytes.
archive() {
  (cd "$1" && find . -mindepth 1 -exec touch -h -d @1700000000 {} + &&
    find . -mindepth 1 | sort | cpio -o -H newc -R 0:0 --reproducible --quiet)
}
