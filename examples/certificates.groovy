// Only certificates: a message when one ends within a fortnight, or cannot be verified.
// Run it once a day.

notify command('/usr/bin/mail -s watchdog me@example.com')

for (name in ['www.example.com', 'mail.example.com', 'git.example.com']) {
    watch(name) {
        url "https://$name/"
        healthy {
            status in 200..599              // any answer will do
            certificate.expiresIn > 14.days
        }
    }
}

// A server whose certificate your own authority has signed:
//     watch('nas') {
//         url 'https://nas.local/'
//         trust 'home-ca.pem'
//         healthy { certificate.expiresIn > 14.days }
//     }
