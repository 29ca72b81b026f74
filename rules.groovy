// What watchdog looks after: Plex at home, published by a Cloudflare Tunnel.
// Edit, then run `watchdog validate`. The next pass takes the edit; nothing needs to be built.

def plex   = 'https://plex.example.com'     // 1. your public address
def tunnel = 'cloudflared tunnel run'       // 2. how the tunnel is started
path '/usr/local/bin', '/opt/homebrew/bin'  // 3. where that program lives; cron looks in /usr/bin and /bin only

watch('internet') { tcp '1.1.1.1:443' }     // is it us who are offline?

watch('plex') {
    url "$plex/identity"
    needs 'internet'                        // offline: nothing is restarted, and no message is lost
    healthy {
        status == 200
        body.contains('machineIdentifier')
    }
    restart(when: { status == 502 }) {      // the tunnel is up, but Plex does not answer it
        sh 'sudo -n systemctl restart plexmediaserver'
    }
    restart(when: { error == unknownHost || status in [403, 429] }) { }  // nothing that a restart could mend
    restart {                               // 530 and everything else: the tunnel
        stop tunnel
        start tunnel
    }
    notify pushover(token: secret('PUSHOVER_TOKEN'), user: secret('PUSHOVER_USER'))
}

// `secret` looks in the environment, then in rules.secrets beside this file (chmod 600), which has lines NAME=value.
//
// The scripts that watchdog replaces asked for / and took Plex's answer to strangers for health:
//     url plex
//     healthy { body.contains('401 Unauthorized') }
// /identity is better: it needs no token either, is meant for health checks, and does not change with the login page.
// On macOS, restart Plex by:  sh 'killall "Plex Media Server"; sleep 3; open -a "Plex Media Server"'
// If cloudflared runs as a service, a second one must not be started beside it. The remedy is then one line:
//     Linux:  run 'sudo -n systemctl restart cloudflared'
//     macOS:  run 'sudo -n launchctl kickstart -k system/com.cloudflare.cloudflared'


// ---------------------------------------------------------------------------------------------------------------------
// Every other word of the language, with its default or an example. Remove the "//- " in front to use a line.
// Times are 300.milliseconds, 10.seconds, 2.minutes, 1.hour, 7.days. The rest is plain Groovy: def, loops, functions
// such as  String web(String name) { "https://$name.example.com/" },  if (host == 'mini') all work. (A pass does a
// third more work when a block is none of watchdog's, as in list.each { }: that starts Groovy's runtime; for does not)

// At the top of the file:

//- deadline 4.minutes                          // how long a whole pass may take
//- heartbeat 'https://hc-ping.com/your-uuid'   // a dead man's switch that is pinged at the end of each pass
//- notify ntfy(topic: 'my-topic')              // a hook for every watch
//- def web = restart { run 'true' }            // a remedy for several watches; it runs once a pass for all of them

// Hooks. Each takes `url:` to point elsewhere; `on:` picks kinds of message, `orElse:` is for when it is not taken:

//- notify pushover(token: secret('T'), user: secret('U'), priority: 0, sound: 'pushover', device: 'phone')
//- notify ntfy(topic: 'my-topic', token: secret('NTFY'), priority: 3, tags: ['house'], url: 'https://ntfy.sh')
//- notify slack(url: secret('SLACK')), on: [down, healed, still_down, gave_up, flapping, recovered, reminder, inconclusive, rules_broken]
//- notify discord(url: secret('DISCORD')), on: [healed, gave_up], orElse: command('/bin/echo')
//- notify telegram(token: secret('BOT'), chat: '12345')
//- notify webhook('https://example.com/hook')
//- notify webhook('https://example.com/hook', headers: ['X-Key': secret('KEY')]) { event -> [text: event.title] }
//- notify command('/usr/bin/logger')           // the message comes as last argument and in WATCHDOG_* variables
//- notify { event -> println "$event.watch: $event.kind: $event.title. $event.text ($event.at, since $event.since)" }

//- watch("everything on $host") {
//-     url 'https://example.com/health'        // or: tcp 'localhost:32400', or: command './check.sh'
//-     method 'POST'                           // default: GET, or POST with send
//-     header 'Accept', 'application/json'
//-     basicAuth 'user', secret('PASSWORD')    // or: bearer secret('TOKEN')
//-     send '{"ping": true}', type: 'application/json'
//-     followRedirects sameHost                // or: none, any; never from https to http
//-     timeout 10.seconds                      // the whole exchange: name, connection, TLS, body
//-     attempts 2, every: 2.seconds            // a bad look is repeated before it counts
//-     samples 5, good: 3                      // default 1: looks on fresh connections, and how many must be good
//-     failures 1                              // unhealthy passes in a row before a restart
//-     needs 'internet'
//-     healthy {                               // default: status in 200..299
//-         status in [200, 204]
//-         body ==~ /(?s).*pong.*/
//-         header('Content-Type') != null
//-         headers['server'] != 'teapot'
//-         json('a.b[0].c') == 'ok'
//-         json('queue.size') < 10
//-         time < 2.seconds
//-         url.startsWith('https://')          // where redirects led
//-         protocol in ['h2', 'http/1.1']
//-         certificate.expiresIn > 14.days     // also certificate.subject, certificate.issuer
//-     }
//-     restart web                             // a shared remedy
//-     restart(when: { error in [refused, unreachable, timeout, tls, reset, closed] && error != none }) {
//-         stop 'my-server --port 80', grace: 10.seconds
//-         start 'my-server --port 80', log: 'my-server.log'   // no log: the output goes nowhere
//-         run 'systemctl --user restart my-server', timeout: 1.minute
//-         sh 'ip link | grep -q wlan0'        // a shell, for when one is meant
//-         pause 3.seconds
//-         call { println 'custom Groovy' }  // the other words of restart are read when the rules are loaded
//-     }
//-     within 30.seconds                       // how long it may take to be healthy after a restart
//-     limit 3, per: 1.hour                    // the restart budget
//-     remind 6.hours                          // default: never
//- }
//- watch('own CA') {
//-     url 'https://nas.local/'
//-     bearer secret('TOKEN')
//-     trust 'ca.pem'                          // a certificate authority of your own, beside the system's
//- }
