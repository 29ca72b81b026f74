// The content of a website, not only its status. Nothing is restarted: you are told.

notify slack(url: secret('SLACK_WEBHOOK'))

watch('shop') {
    url 'https://www.example.com/'
    attempts 3, every: 5.seconds
    healthy {
        status == 200
        body.contains('Add to cart')
        !body.contains('Fatal error')
        header('Content-Security-Policy') != null
        time < 3.seconds
    }
    remind 1.day
}

watch('shop search') {
    url 'https://www.example.com/api/search?q=lamp'
    header 'Accept', 'application/json'
    healthy { json('hits.size') > 0 }
}

watch('http leads to https') {
    url 'http://www.example.com/'
    followRedirects none
    healthy {
        status in [301, 308]
        header('Location') == 'https://www.example.com/'
    }
}
