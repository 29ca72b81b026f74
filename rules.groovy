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


// -------------------------------------------------------------------------------------------------
// The reference: every other word with its default or an example. To use a line, remove "//- ".
//
// Write times as 300.milliseconds, 10.seconds, 2.minutes, 1.hour or 7.days.
// Rules are Groovy: variables, if, for and functions work. Give the types of a function:
//     String web(String name) { "https://${name}.example.com/" }
// `host` is the name of this machine:  if (host == 'mini') watch('disk') { command './disk.sh' }

// At the top of the file:

//- path '~/bin', '/opt/tools'      // folders to search for programs first
//- deadline 4.minutes              // the longest time that a whole pass may take
//- heartbeat 'https://hc-ping.com/your-uuid'  // a URL to request at the end of each pass
//- metrics '/var/lib/prometheus/node-exporter/watchdog.prom'  // for Prometheus, after each pass
//- notify ntfy(topic: 'my-topic')  // notifications of every watch
//- def web = restart { run 'true' }  // a remedy for several watches; it runs once a pass

// Each `notify` line is one way to notify you. Inside a watch the line is for that watch only.
// `orElse:` is used when the first way does not accept the message.
// `url:` of pushover, ntfy and telegram is the server without a path.
// `url:` of slack and discord is the whole address of the webhook.
// `on:` selects the kinds of message; default: all kinds.
//     down          before the first restart
//     healed        healthy after a restart           recovered     healthy without a restart
//     still_down    the first restart did not help    gave_up       the restart limit is reached
//     flapping      down again soon after recovery    reminder      see `remind`
//     inconclusive  not judged for an hour            rules_broken  this file has mistakes

//- notify pushover(token: secret('T'), user: secret('U'), priority: 0, sound: 'pushover',
//-     device: 'phone')
//- notify ntfy(topic: 'my-topic', token: secret('NTFY'), priority: 3, tags: ['house'],
//-     url: 'https://ntfy.sh')
//- notify ntfy(topic: 'my-topic', url: 'https://ntfy.local', trust: 'ca.pem')
//-     // trust: the PEM file of your own certificate authority; also of slack and webhook
//- notify ntfy(topic: 'my-topic', url: "https://me:${secret('NTFY_PASSWORD')}@ntfy.local")
//- notify slack(url: secret('SLACK')), on: [down, healed, still_down, gave_up, flapping, recovered,
//-     reminder, inconclusive, rules_broken]
//- notify discord(url: secret('DISCORD')), on: [healed, gave_up], orElse: command('/bin/echo')
//- notify telegram(token: secret('BOT'), chat: '12345')
//- notify webhook('https://example.com/hook')      // JSON: kind, watch, title, text, at, since
//- notify webhook('https://example.com/hook', headers: ['X-Key': secret('KEY')]) { event ->
//-     [text: event.title]                         // the JSON to send
//- }
//- notify command('/usr/bin/logger')               // the message is the last argument, and in
//-     // WATCHDOG_EVENT, WATCHDOG_WATCH, WATCHDOG_TITLE, WATCHDOG_TEXT, _AT and _SINCE
//- notify command('apprise --config apprise.yml --body')  // more than 100 services
//- notify command("sh -c 'echo \"\$WATCHDOG_TEXT\" | mail -s \"\$WATCHDOG_TITLE\" me@example.com'")
//- notify { event ->                               // custom Groovy code
//-     println "$event.watch: $event.kind: $event.title. $event.text ($event.at, $event.since)"
//- }

//- watch("everything on $host") {
//-     url 'https://example.com/health'            // or tcp 'localhost:32400'
//-                                                 // or command './check.sh'
//-     connectTo '127.0.0.1:32400'                 // the same request, past the tunnel
//-     method 'POST'                               // default: GET; with send: POST
//-     header 'Accept', 'application/json'
//-     basicAuth 'user', secret('PASSWORD')        // or bearer secret('TOKEN')
//-     send '{"ping": true}', type: 'application/json'
//-     followRedirects sameHost                    // or none, any; never from https to http
//-     timeout 10.seconds                          // the whole check: DNS, connection, TLS, body
//-     attempts 2, every: 2.seconds                // tries before it counts as unhealthy
//-     samples 5, good: 3                          // 5 connections, 3 must be healthy; default: 1
//-     failures 1                                  // unhealthy passes before a restart or message
//-     needs 'internet'                            // a watch that stands above this one
//-     healthy {                                   // default: status in 200..299
//-         status in [200, 204]                    // of a command: its exit code
//-         body ==~ /(?s).*pong.*/                 // of a command: what it printed
//-         header('Content-Type') != null
//-         headers['server'] != 'teapot'           // names in lower case
//-         json('a.b[0].c') == 'ok'                // a value of a JSON body
//-         json('queue.size') < 10
//-         time < 2.seconds
//-         url.startsWith('https://')              // the URL after redirects
//-         protocol in ['h2', 'http/1.1']
//-         certificate.expiresIn > 14.days         // also certificate.subject, certificate.issuer
//-     }

// The first restart whose `when` is true is used. If there is none, the restarts without `when`
// are used in the order of this file: the next one when the last one did not help.
// A restart without steps means: do not restart for this cause. For a wrong certificate watchdog
// restarts nothing unless a `when` names `tls`. `error` is `none` if there was a response.

//-     restart(when: { error in [refused, unreachable, timeout, reset, closed, tls] }) {
//-         stop 'my-server --port 80', grace: 10.seconds  // SIGTERM, then SIGKILL after `grace`
//-         start 'my-server --port 80', log: 'my-server.log'  // runs on, with or without log
//-         run 'systemctl --user restart my-server', timeout: 1.minute  // runs to its end
//-         sh 'ip link | grep -q wlan0'            // run by /bin/sh, for pipes and variables
//-         pause 3.seconds
//-         call { println 'custom Groovy code' }
//-     }
//-     restart(when: { error != none }) { run 'true' }
//-     restart web                                 // the remedy from the top of the file

// The steps of a restart are collected when the rules are loaded; if and for work there. Only the
// code in `call { }` runs during the restart, as one of the steps.

//-     within 30.seconds                           // time to be healthy after a restart
//-     limit 3, per: 1.hour                        // the restart limit
//-     remind 6.hours                              // repeats "still down"; default: 1.day
//- }
//- watch('own certificate authority') {
//-     url 'https://nas.local/'
//-     bearer secret('TOKEN')
//-     trust 'ca.pem'                              // trusted in addition to the system's
//- }
