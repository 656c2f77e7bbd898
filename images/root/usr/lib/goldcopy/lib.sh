# Sourced by the scripts beside it: the places, and how something is said.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin
library=/usr/lib/goldcopy
# Kept over restarts and updates: the state partition.
state=/var/lib/goldcopy
storedProfile=$state/profile.toml
# The answers from which a profile is made at each start, where there is no profile.
storedAnswers=$state/answers
storedNetwork=$state/network
degradedFile=$state/degraded
# Gone at the next start.
run=/run/goldcopy
seedProfile=$run/seed.toml
profile=$run/profile.toml
serving=$run/serving
supervisorPid=$run/supervisor.pid

# On every console and in the kernel's log. Level 5: what one wants to know; 3: what one must.
say() { echo "<5>goldcopy: $1" >/dev/kmsg; }
warn() { echo "<3>goldcopy: $1" >/dev/kmsg; }

# What goldcopy.NAME= is on the kernel's command line.
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^goldcopy\.$1=//p" | tail -n 1; }

slot() { cat "$run/slot" 2>/dev/null; }

# The device of the partition NAME beside the root: on the same disk.
sibling() {
  local own part
  read -r own <$run/root_device || return 1
  part=$(grep -ls "^PARTNAME=$1\$" "/sys/class/block/$own"/../*/uevent | head -n 1)
  [ -n "$part" ] && sed -n 's/^DEVNAME=//p' "$part"
}

# KEY of [TABLE] in a board profile: only for what is shown and for the management socket; the firmware reads profiles.
profile_value() {
  awk -v table="[$2]" -v key="$3" '
    /^[ \t]*\[/ { here = ($1 == table) }
    here && $0 ~ "^[ \t]*" key "[ \t]*=" { sub(/^[^=]*=[ \t]*/, ""); sub(/^"/, ""); sub(/".*/, ""); print; exit }
  ' "$1" 2>/dev/null
}

version() { sed -n 's/^NAME=//p' /etc/goldcopy-release; }

# `eth0 192.0.2.10/24`, a line each.
addresses() { ip -4 -o addr show scope global 2>/dev/null | awk '{ print $2, $4 }'; }
first_address() { addresses | sed -n '1{s/.* //;s,/.*,,;p;}'; }

uptime_s() {
  local text
  read -r text </proc/uptime
  echo "${text%%.*}"
}
