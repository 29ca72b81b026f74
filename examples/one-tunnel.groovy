// Several host names behind one Cloudflare Tunnel: the tunnel is restarted once a pass, also when
// all of them are down, and the restart limit is its own.

def command = 'cloudflared tunnel --no-autoupdate run'
def tunnel = restart {
    stop  command
    start command, log: 'cloudflared.log'
}

notify pushover(token: secret('PUSHOVER_TOKEN'), user: secret('PUSHOVER_USER'))

watch('internet') { tcp '1.1.1.1:443' }

for (name in ['plex', 'photos', 'git']) {
    watch(name) {
        url "https://${name}.example.com/"
        needs 'internet'
        healthy { status in [200, 401] }    // 401: it asks for a login, so it works
        restart(when: { status == 502 }) {  // not the tunnel
            run "sudo -n systemctl restart $name"
        }
        restart tunnel
    }
}
