package swap

// lacking are runtimes that give up where a capability of Docker's is lacking.
var lacking = []string{"runc"}

// runs are of containers that run once.
var runs = []story{
	{name: "exit", script: `run --rm $I sh -c 'exit 7'; echo $?`, want: "7"},
	{name: "streams", long: true, script: `run --rm $I sh -c 'echo out; echo err >&2'`, want: "out", errs: true},
	{name: "stdin", script: `echo in | run --rm -i $I sh -c 'cat; echo end'`, want: "in\nend"},
	{name: "terminal", long: true, script: `run --rm -t $I sh -c 'test -t 0 && test -t 1 && tty; ls -l /dev/console | cut -c1-10'`, want: "/dev/pts/0\ncrw--w----", not: []string{"crun"}},
	{name: "terminal in", script: `printf 'until stty size | grep "33 91"; do sleep .05; done; echo got $((6*7))\nexit 3\n' | tty $RUN --rm -it $I sh >$T/o; echo $?; grep -o '^got 42\|^33 91' $T/o`, want: "3\n33 91\ngot 42"},
	{name: "limits", script: `run --rm --memory 64m --memory-reservation 32m --cpus 0.5 --pids-limit 50 --cpu-shares 512 --cpuset-cpus 0 $I sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max cpu/cpu.shares cpuset/cpuset.cpus'`, want: "67108864\n33554432\n50000\n50\n512\n0"},
	{name: "bind", script: `mkdir $T/a; echo x >$T/a/f; run --rm -v $T/a:/a -v $T/a/f:/etc/f:ro $I sh -c 'cat /a/f /etc/f; echo y >/a/g; echo z 2>/dev/null >/etc/f || echo no'; cat $T/a/g`, want: "x\nx\nno\ny"},
	{name: "tmpfs", script: `run --rm --tmpfs /x:size=1m,mode=700,noexec $I sh -c 'grep " /x " /proc/mounts; stat -c %a /x; df -k /x | tail -1 | awk "{print \$2}"'`, want: "tmpfs /x tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700… 0 0\n700\n1024"},
	{name: "read-only", long: true, script: `run --rm --read-only --tmpfs /tmp $I sh -c 'touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes; touch /dev/x 2>/dev/null || true'`, want: "no\nyes"},
	{name: "capabilities", long: true, script: `for f in --cap-add=SYS_TIME --cap-drop=ALL "--cap-drop=ALL --cap-add=CHOWN" --user=1000 "--user=1000:50 --group-add=33"; do run --rm $f $I sh -c 'grep -E "^(Cap|Groups|Uid|Gid)" /proc/self/status'; done`},
	{name: "privileged", not: lacking, script: `run --rm --privileged $I sh -c 'mount -t tmpfs x /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs x /mnt && echo mounted; ls /dev/loop-control; grep Seccomp: /proc/self/status; grep -c " /sys sysfs rw" /proc/mounts'`, want: "mounted\n/dev/loop-control\nSeccomp:\t0\n1"},
	{name: "security", script: `printf '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}' >$T/p.json
		q='grep -E "^(NoNewPrivs|Seccomp):" /proc/self/status; mkdir /x 2>&1'
		run --rm $I sh -c "$q"; run --rm --security-opt no-new-privileges $I sh -c "$q"; run --rm --security-opt seccomp=$T/p.json $I sh -c "$q"; run --rm --security-opt seccomp=unconfined $I sh -c "$q"`,
		want: "NoNewPrivs:\t0\nSeccomp:\t2\nNoNewPrivs:\t1\nSeccomp:\t2\nNoNewPrivs:\t0\nSeccomp:\t2\nmkdir: can't create directory '/x': Operation not supported\nNoNewPrivs:\t0\nSeccomp:\t0"},
	{name: "init", script: `run --rm --init $I sh -c 'tr "\0" " " </proc/1/cmdline; echo; exit 4'; echo $?`, want: "…-init -- sh -c…\n4"},
	{name: "ulimit", long: true, script: `run --rm --ulimit nofile=512:600 --ulimit core=0 $I sh -c 'ulimit -n; ulimit -Hn; ulimit -c'`, want: "512\n600\n0", not: []string{"podman"}},
	{name: "device", long: true, script: `run --rm --device /dev/loop-control:/dev/z:r $I sh -c 'exec 3</dev/z && echo read; (exec 3>/dev/z) 2>/dev/null || echo no; ls -l /dev/z | cut -c1-10'`, want: "read\nno\ncrw-------"},
	{name: "sysctl", long: true, script: `run --rm --sysctl net.ipv4.ip_unprivileged_port_start=77 --sysctl kernel.shm_rmid_forced=1 $I cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced`, want: "77\n1"},
	{name: "hostname", long: true, script: `run --rm --hostname h1 $I sh -c 'hostname; cat /etc/hostname; echo'; run --rm --uts host $I hostname >$T/h; hostname | cmp - $T/h && echo host`, want: "h1\nh1\n…host"},
	{name: "network", long: true, script: `run --rm --network none $I ls /sys/class/net; run --rm --network host $I readlink /proc/self/ns/net`},
	{name: "namespaces shared", script: `run -d --name $N --ipc shareable $I sleep 1000 >/dev/null; run --rm --pid container:$N --ipc container:$N --network container:$N $I sh -c 'for n in pid ipc net; do readlink /proc/self/ns/$n; done' >$T/a; d exec $N sh -c 'for n in pid ipc net; do readlink /proc/self/ns/$n; done' >$T/b; cmp $T/a $T/b && echo same; run --rm --pid container:$N $I cat /proc/1/comm; d rm -f $N >/dev/null; for n in pid ipc; do [ "$(run --rm --$n host $I readlink /proc/self/ns/$n)" = "$(readlink /proc/self/ns/$n)" ] && echo host; done`, want: "same\nsleep\nhost\nhost"},
	{name: "cgroup parent", script: `run --rm --cgroup-parent /$G/sub $I cat /proc/self/cgroup | grep -E ':(memory|pids|devices|freezer|cpuset):'`, want: "…/sub/ID…", not: []string{"podman"}},
	{name: "environment", long: true, script: `run --rm -e A=1 --env B $I env | sort; run --rm -w /tmp $I pwd; run --rm -w /new/dir $I pwd`, want: "A=1\nHOME=/root\nHOSTNAME=ID\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/tmp\n/new/dir", not: []string{"podman"}},
	{name: "inside", script: `run --rm $I sh -c 'umask; cat /proc/self/oom_score_adj; grep -v "Max processes\|Max open\|Max core\|Max pending" /proc/self/limits; cat /proc/self/personality; ls -l /proc/self/fd | grep -c " [3-9] ->"; cat /proc/1/comm; ls -la /dev | awk "{print \$1, \$3, \$4, \$NF}" | grep -v kcore | sort'`, not: []string{"crun"}},
	{name: "mounts", script: `run --rm $I cat /proc/mounts | grep -v " overlay \| /proc/[a-z_]* \(dev\)\?tmpfs \| /sys/fs/cgroup " | sed 's/,size=4k,nr_inodes=1//' | awk '{print $2, $3, $4}' | sort`, not: []string{"crun"}},
	{name: "masked", long: true, script: `run --rm $I sh -c 'for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /proc/acpi /sys/firmware /proc/scsi; do [ -e $f ] && { ls -ld $f | cut -c1-10; wc -c <$f 2>&1 | tail -1; echo x 2>/dev/null >$f || echo no; }; done'`},
	// Whoever looks out for it does so after the start, and tells of it beside the end.
	{name: "out of memory", script: `run -d --name $N --memory 12m --memory-swap 12m -v $T:/t $I sh -c 'until [ -e /t/go ]; do sleep .05; done; tail /dev/zero; r=$?; sleep 1; exit $r' >/dev/null
		touch $T/go; d wait $N; d inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' $N; d rm $N >/dev/null`, want: "137\ntrue 137", not: []string{"podman"}},
	{name: "small memory", long: true, script: `for i in 1 2 3; do run --rm --memory 6m $I echo $i; done`, want: "1\n2\n3", not: []string{"runc"}},
}

// failures are of containers that do not come to run.
var failures = []story{
	{name: "no such command", script: `run --rm $I nope; echo $?`, want: "127", errs: true},
	{name: "no such path", long: true, script: `run --rm $I /no/pe; echo $?`, want: "127", errs: true},
	{name: "not executable", script: `run --rm $I /etc/passwd; echo $?`, want: "126", errs: true},
	{name: "a directory", long: true, script: `run --rm $I /etc; echo $?`, want: "126", not: []string{"crun"}},
	{name: "not a program", script: `echo x >$T/x; chmod +x $T/x; run --rm -v $T/x:/x $I /x 2>&1 | grep -o 'exec /x: exec format error'`, want: "exec /x: exec format error", not: []string{"crun"}},
	{name: "file over directory", long: true, script: `echo x >$T/x; run --rm -v $T/x:/etc $I true; echo $?`, want: "12…"},
	{name: "sysctl refused", script: `run --rm --network host --sysctl net.ipv4.ip_forward=1 $I true; echo $?`, want: "125"},
	{name: "no such cpu", long: true, script: `run --rm --cpuset-cpus 99 $I true; echo $?`, want: "125"},
	{name: "again after failure", script: `run --name $N $I nope 2>/dev/null; echo $?; d inspect -f '{{.State.Status}} {{.State.ExitCode}}' $N; d rm $N; run --rm --name $N $I true; echo $?`, want: "127\ncreated …\nNAME\n0"},
}

// lives are of containers that something is done to.
var lives = []story{
	{name: "exec", script: `run -d --name $N -e A=1 --user 1000 --tmpfs /tmp $I sleep 1000 >/dev/null
		d exec $N sh -c 'id; echo $A; pwd; exit 9'; echo $?
		d exec -u 0 -w /etc -e B=2 $N sh -c 'id -u; pwd; echo $B'
		echo in | d exec -i $N cat
		d exec -t $N tty
		d exec $N sh -c 'echo out; echo err >&2' 2>/dev/null
		d exec -d $N touch /tmp/done >/dev/null; for i in $(seq 100); do d exec $N test -e /tmp/done && break; sleep .05; done; d exec $N ls /tmp
		d exec --privileged $N grep CapBnd /proc/self/status | grep -c 0000000000000000
		d exec $N nope >$T/o; echo $?; d exec $N /etc/passwd >>$T/o; echo $?; d exec -w /nope $N true >>$T/o; echo $?; grep -v "^OCI runtime exec failed: .*\(not found\|denied\|no such\)" $T/o
		d exec $N sh -c 'kill -9 $$'; echo $?
		d rm -f $N`, want: "uid=1000…\n1\n/\n9\n0\n/etc\n2\nin\n/dev/pts/0\nout\ndone\n0\n12…\n126\n12…\n137\nNAME"},
	{name: "exec terminal", script: `run -d --name $N $I sleep 1000 >/dev/null; printf 'until stty size | grep "33 91"; do sleep .05; done; echo got $((6*7))\nexit 3\n' | tty $D exec -it $N sh >$T/o; echo $?; grep -o '^got 42\|^33 91' $T/o; d rm -f $N`, want: "3\n33 91\ngot 42\nNAME"},
	{name: "detach", script: `run -dit --name $N $I sh >/dev/null; (for i in $(seq 20); do sleep .7; printf '\020\021'; done) | tty $D attach $N >/dev/null; echo $?; d inspect -f '{{.State.Running}}' $N; d rm -f $N`, want: "1\ntrue\nNAME", not: []string{"podman"}},
	{name: "stop", script: `run -d --name $N $I sh -c 'trap "echo bye; exit 5" TERM; echo ready; while :; do sleep .05; done' >/dev/null; until_says $N ready; d stop $N; d logs $N; d inspect -f '{{.State.Status}} {{.State.ExitCode}}' $N; d start $N; until_says $N bye; d stop -t 1 $N; d logs $N; d rm $N`, want: "NAME\nready\nbye\nexited 5\nNAME\nNAME\nready\nbye\nready\nbye\nNAME"},
	{name: "stop deaf", long: true, script: `run -d --name $N $I sleep 1000 >/dev/null; d stop -t 0 $N; d inspect -f '{{.State.ExitCode}}' $N; d rm $N`, want: "NAME\n137\nNAME"},
	{name: "signals", script: `run -d --name $N $I sh -c 'trap "echo usr1" USR1; echo ready; while :; do sleep .05; done' >/dev/null; until_says $N ready; d kill -s USR1 $N; until_says $N usr1; d kill $N; d wait $N; d rm $N`, want: "NAME\nNAME\n137\nNAME"},
	{name: "restart", script: `run -d --name $N $I sh -c 'echo up; exec sleep 1000' >/dev/null; until_says $N up; d restart -t 0 $N; for i in $(seq 100); do [ "$(d logs $N | wc -l)" = 2 ] && break; sleep .05; done; d logs $N; d exec $N echo in; d rm -f $N`, want: "NAME\nup\nup\nin\nNAME"},
	{name: "restart policy", long: true, script: `run -d --name $N --restart on-failure:2 $I sh -c 'echo up; exit 3' >/dev/null; for i in $(seq 100); do [ "$(d logs $N | wc -l)" = 3 ] && [ "$(d inspect -f '{{.State.Status}}' $N)" = exited ] && break; sleep .1; done; d logs $N; d inspect -f '{{.RestartCount}} {{.State.ExitCode}}' $N; d rm -f $N`, want: "up\nup\nup\n2 3\nNAME"},
	{name: "stats", script: `run -d --name $N --memory 64m $I sleep 1000 >/dev/null; d stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' $N | grep -o '^NAME\|^[^ ]* \|/ 6[47].*'; d rm -f $N`, want: "…/ 6… 1\nNAME"},
	{name: "top", script: `run -d --name $N $I sh -c 'sleep 1000 & wait' >/dev/null; for i in $(seq 50); do [ "$(d top $N | wc -l)" = 3 ] && break; sleep .1; done; d top $N -o pid,args | awk '{$1=""; print}'; d rm -f $N`, want: " COMMAND\n sh -c…wait\n sleep 1000\nNAME", not: []string{"podman"}},
	{name: "update", script: `run -d --name $N --memory 64m $I sleep 1000 >/dev/null; d update --memory 32m --memory-swap 48m --cpus 0.3 --pids-limit 40 --cpu-shares 100 $N >/dev/null; d exec $N sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max cpu/cpu.shares'; d update --memory 100m --memory-swap 150m $N >/dev/null; d exec $N cat /sys/fs/cgroup/memory/memory.limit_in_bytes; d rm -f $N`, want: "33554432\n30000\n40\n100\n104857600\nNAME", not: []string{"podman"}},
	{name: "pause", script: `run -d --name $N $I sleep 1000 >/dev/null; d pause $N; d inspect -f '{{.State.Status}}' $N; d exec $N true 2>/dev/null; [ $? -ne 0 ] && echo refused; d unpause $N; d exec $N echo on; d pause $N; d kill $N >/dev/null; d wait $N; d rm -f $N`, want: "NAME\npaused\nrefused\nNAME\non\nNAME\n137\nNAME", not: []string{"podman"}},
	{name: "remove paused", long: true, script: `run -d --name $N $I sleep 1000 >/dev/null; d pause $N; d rm -f $N`, want: "NAME\nNAME"},
	{name: "copy", script: `run -d --name $N $I sleep 1000 >/dev/null; echo x >$T/x; d cp $T/x $N:/etc/x; d exec $N cat /etc/x; d cp $N:/etc/x - | tar -xO; d rm -f $N`, want: "x\nx\nNAME"},
	{name: "create and attach", long: true, script: `d create --runtime $R --name $N $I sh -c 'echo a; exit 6' >/dev/null; d start -a $N; echo $?; d rm $N`, want: "a\n6\nNAME", not: []string{"podman"}},
	{name: "many execs", long: true, script: `run -d --name $N $I sleep 1000 >/dev/null; for i in 1 2 3 4 5; do d exec $N sh -c "exit $i" & p="$p $!"; done; for x in $p; do wait $x; echo $?; done; d rm -f $N`, want: "1\n2\n3\n4\n5\nNAME"},
	{name: "health", long: true, not: []string{"podman", "gantryd"}, script: `run -d --name $N --health-cmd 'echo well' --health-interval 300ms $I sleep 1000 >/dev/null; for i in $(seq 100); do [ "$(d inspect -f '{{.State.Health.Status}}' $N)" = healthy ] && break; sleep .1; done; d inspect -f '{{.State.Health.Status}} {{(index .State.Health.Log 0).Output}}' $N; d rm -f $N`, want: "healthy well\n…NAME"},
}
