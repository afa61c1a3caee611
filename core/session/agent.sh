#!/bin/busybox sh
# Runs the commands that come over COM2, one a line: run COUNT NAME=VALUE... ARGUMENT...

# A name without a slash would be one of Busybox's own programs for its shell.
find_program() {
  case $1 in
    */*) program=$1; return ;;
  esac
  rest=$PATH:
  while [ -n "$rest" ]; do
    program=${rest%%:*}/$1
    rest=${rest#*:}
    [ -f "$program" ] && [ -x "$program" ] && return
  done
  echo "$1: command not found" >&2
  exit 127
}

# The command's process is there, with all that can be done before it is known, when the machine is saved. Standard output and
# standard error of the command are pipes. The process says its number before it becomes the tool; the exit code comes when all
# that was written is on the wire: the driver has sent what write() took before it returns, as the port is never busy.
run() {
  status=$(
    exec 9>&1
    {
      exec 8>&1
      {
        (
          # Names that were looked up in /proc and /sys so far mean what the trusted VM has, and static programs look at
          # /proc/self/exe when they start, as the two cats do now: the tool gets other instances.
          /bin/busybox sleep 0.05
          /bin/busybox umount -l /proc
          /bin/busybox umount -l /sys
          /bin/busybox mount -t sysfs sysfs /sys
          /bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
          /bin/busybox mount -t proc proc /proc
          unset SHLVL OLDPWD
          pid=$(exec /bin/busybox sh -c 'echo $PPID')
          $first && echo ready >&3
          IFS= read -r line <&3
          eval "set -- ${line#run }"
          n=$1
          shift
          while [ "$n" -gt 0 ]; do
            export "$1"
            shift
            n=$((n - 1))
          done
          find_program "$1"
          name=$1
          shift
          echo "pid $pid" >&3
          exec -a "$name" "$program" "$@" 3>&- 4>&- 5>&- 8>&- 9>&-
        ) 2>&1 >&8 </dev/null
        echo $? >&9
      } | /bin/busybox cat >&5 3>&- 4>&- 8>&- 9>&-
    } | /bin/busybox cat >&4 3>&- 5>&- 9>&-
  )
  echo "exit $status" >&3
}

for port in 1 2 3; do
  /bin/busybox stty -F /dev/ttyS$port raw -echo 115200
done
exec 3<>/dev/ttyS1 4>/dev/ttyS2 5>/dev/ttyS3
cd /
# What starts with the kernel and takes a while comes to rest.
/bin/busybox sleep 4
first=true
while :; do
  run
  first=false
done
