// Command curl is the demo's small stand-in for curl: it fetches a URL and prints the response. It supports the
// flags that people type: -s, -S, -f, -i, -I, -v, -k, -L, -m SECONDS, -o FILE, -X METHOD, -d DATA and -H
// HEADER. Its exit codes are those of curl.
package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Exit codes, as in curl(1).
const (
	exitUsage    = 2
	exitURL      = 3
	exitResolve  = 6
	exitConnect  = 7
	exitStatus   = 22
	exitWrite    = 23
	exitTimeout  = 28
	exitTransfer = 56
)

// options are the parsed command line.
type options struct {
	silent, showError, fail, include, head, verbose, insecure, follow bool

	timeout           time.Duration
	out, method, data string
	headers           []string
	url               string
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	o, err := parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		return exitUsage
	}
	code, err := get(o)
	if err != nil && (!o.silent || o.showError) {
		fmt.Fprintf(os.Stderr, "curl: (%d) %v\n", code, err)
	}
	return code
}

func parse(args []string) (options, error) {
	var o options
	switches := map[byte]*bool{
		's': &o.silent, 'S': &o.showError, 'f': &o.fail, 'i': &o.include, 'I': &o.head,
		'v': &o.verbose, 'k': &o.insecure, 'L': &o.follow,
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if len(arg) < 2 || arg[0] != '-' {
			o.url = arg
			continue
		}
		for i := 1; i < len(arg); i++ {
			if on, ok := switches[arg[i]]; ok {
				*on = true
				continue
			}
			value := arg[i+1:]
			if value == "" {
				if len(args) == 0 {
					return o, fmt.Errorf("option -%c: requires parameter", arg[i])
				}
				value, args = args[0], args[1:]
			}
			if err := o.set(arg[i], value); err != nil {
				return o, err
			}
			break
		}
	}
	if o.url == "" {
		return o, errors.New("no URL specified")
	}
	if !strings.Contains(o.url, "://") {
		o.url = "http://" + o.url
	}
	return o, nil
}

func (o *options) set(flag byte, value string) error {
	switch flag {
	case 'm':
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("option -m: expected a number, got %q", value)
		}
		o.timeout = time.Duration(seconds * float64(time.Second))
	case 'o':
		o.out = value
	case 'X':
		o.method = value
	case 'd':
		o.data = value
	case 'H':
		o.headers = append(o.headers, value)
	default:
		return fmt.Errorf("option -%c: is unknown", flag)
	}
	return nil
}

func request(o options) (*http.Request, error) {
	method := o.method
	var body io.Reader
	switch {
	case o.data != "":
		body = strings.NewReader(o.data)
		if method == "" {
			method = http.MethodPost
		}
	case o.head && method == "":
		method = http.MethodHead
	}
	r, err := http.NewRequest(method, o.url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "curl/podium-demo")
	r.Header.Set("Accept", "*/*")
	if o.data != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range o.headers {
		name, value, _ := strings.Cut(h, ":")
		r.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			r.Host = strings.TrimSpace(value)
		}
	}
	return r, nil
}

func get(o options) (int, error) {
	r, err := request(o)
	if err != nil {
		return exitURL, err
	}
	client := &http.Client{Timeout: o.timeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{InsecureSkipVerify: o.insecure}, //nolint:gosec // -k asks for it
	}}
	if !o.follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	if o.verbose {
		fmt.Fprintf(os.Stderr, "> %s %s HTTP/1.1\n> Host: %s\n", r.Method, r.URL.RequestURI(), r.URL.Host)
	}
	resp, err := client.Do(r)
	if err != nil {
		return exitOf(err), err
	}
	defer resp.Body.Close()
	if o.fail && resp.StatusCode >= 400 {
		return exitStatus, fmt.Errorf("the requested URL returned error: %d", resp.StatusCode)
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s\r\n", resp.Proto, resp.Status)
	_ = resp.Header.Write(&head)
	head.WriteString("\r\n")
	if o.verbose {
		os.Stderr.Write(head.Bytes())
	}
	out := os.Stdout
	if o.out != "" {
		if out, err = os.Create(o.out); err != nil {
			return exitWrite, err
		}
		defer out.Close()
	}
	if o.include || o.head {
		if _, err := out.Write(head.Bytes()); err != nil {
			return exitWrite, err
		}
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return exitOf(err), err
	}
	return 0, nil
}

// exitOf returns the exit code for an error of the transfer.
func exitOf(err error) int {
	var dns *net.DNSError
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return exitResolve
	case errors.As(err, &timeout) && timeout.Timeout():
		return exitTimeout
	case errors.As(err, &op) && op.Op == "dial":
		return exitConnect
	}
	return exitTransfer
}
