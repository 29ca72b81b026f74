// A service on another machine, restarted over ssh. The key of cron's user must work without a
// password, and a command that hangs must end: BatchMode and ConnectTimeout see to both.

def nas = 'ssh -o BatchMode=yes -o ConnectTimeout=10 admin@nas.local'

watch('nas') { tcp 'nas.local:22' }         // while the machine is off, nothing is restarted

watch('photos') {
    url 'http://nas.local:2342/api/v1/status'
    needs 'nas'
    healthy { json('status') == 'operational' }
    restart { run "$nas sudo -n systemctl restart photoprism", timeout: 2.minutes }
}

// The exit code of a command is its `status`, what it printed is its `body`.
watch('nas disk') {
    command "$nas 'test \$(df --output=pcent /data | tail -n 1 | tr -dc 0-9) -lt 90'"
    needs 'nas'
}
