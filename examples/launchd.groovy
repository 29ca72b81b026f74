// Services that launchd runs on a Mac. `launchctl print system` lists the names.
// A daemon needs a right: run `sudo visudo` and add, with your own user name:
//     me ALL=(root) NOPASSWD: /bin/launchctl kickstart -k system/com.cloudflare.cloudflared

watch('tunnel') {
    url 'https://www.example.com/health'
    restart { run 'sudo -n launchctl kickstart -k system/com.cloudflare.cloudflared' }
}

// An agent of your own user, as Homebrew installs it, needs no sudo.
watch('syncthing') {
    url 'http://127.0.0.1:8384/rest/noauth/health'
    healthy { json('status') == 'OK' }
    restart { sh 'launchctl kickstart -k gui/$(id -u)/homebrew.mxcl.syncthing' }
}
