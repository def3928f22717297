#!/usr/bin/env bash
# Installs from Debian what tests use as peers and clients and the machine lacks.
# A package that can't be had is reported; the tests that need it then skip with
# that reason.
set -u
declare -A need=(
	[busybox]=busybox-static [ctr]=containerd [runc]=runc [docker-registry]=docker-registry
	[skopeo]=skopeo [dockerd]=docker.io [podman]=podman [conmon]=conmon [script]=bsdutils [ip]=iproute2 [nft]=nftables [crun]=crun
	[criu]=criu [rsyslogd]=rsyslog [newuidmap]=uidmap [mkfs.xfs]=xfsprogs
)
missing=()
for command in "${!need[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("${need[$command]}")
done
/usr/bin/python3 -c 'import docker; docker.from_env' 2>/dev/null || missing+=(python3-docker)
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Debian would start services on install; the tests start their own.
policy=/usr/sbin/policy-rc.d
made=
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made=1; }
for package in "${missing[@]}"; do
	apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 || echo "could not install $package"
done
[ -z "$made" ] || rm -f $policy
exit 0
