// The rules of watchdog: which services to check, and how to restart them.
// The example is a Plex server at home that a Cloudflare Tunnel publishes.
// After each edit run `watchdog validate`. The next pass uses the new rules; there is no build.

def plex   = 'https://plex.example.com'     // edit: your public address
def tunnel = 'cloudflared tunnel run'       // edit: the command that starts your tunnel

watch('internet') { tcp '1.1.1.1:443' }     // unhealthy when this machine is offline

watch('plex') {
    url "$plex/identity"
    needs 'internet'                        // while internet is unhealthy, plex is not restarted
    healthy {                               // every line must be true
        status == 200
        body.contains('machineIdentifier')
    }
    restart(when: { status == 502 }) {      // the tunnel works, but Plex does not answer it
        run 'sudo -n systemctl restart plexmediaserver'
    }
    restart(when: { error == unknownHost || status in [403, 429] }) { }  // a restart cannot help
    restart {                               // every other cause: restart the tunnel
        stop  tunnel
        start tunnel
    }
    notify pushover(token: secret('PUSHOVER_TOKEN'), user: secret('PUSHOVER_USER'))
}

// secret('NAME') is taken from the environment, or else from the file rules.secrets beside this
// file. Each line of that file is NAME=value. Protect it with: chmod 600 rules.secrets
//
// Plex answers a request for its start page without a login with 401. To check that page instead:
//     url plex
//     healthy { body.contains('401 Unauthorized') }
//
// If cloudflared is installed as a service, do not start a second one. The steps are then:
//     Linux:  run 'sudo -n systemctl restart cloudflared'
//     macOS:  run 'sudo -n launchctl kickstart -k system/com.cloudflare.cloudflared'
// Restart Plex on macOS with:
//     sh 'killall "Plex Media Server"; sleep 3; open -a "Plex Media Server"'

// All words of the rules: watchdog help rules, or docs/reference.groovy. More examples: examples/
