// The real library:// client code of Apptainer and Singularity behind a small command line, for the conformance
// tests. One command a run; a JSON object on standard output; a failure is one line on standard error and exit 1.
//
//	library_client -base URL [-token T] version
//	library_client ... get    entity/collection/container:tag
//	library_client ... push   entity/collection/container FILE   (-arch, -tags a,b, -desc, -spoil)
//	library_client ... pull   entity/collection/container:tag FILE
//	library_client ... cpull  entity/collection/container:tag FILE   (-conc, -part)
//	library_client ... search WORD
//	library_client ... delete entity/collection/container:tag
//
// SSL_CERT_FILE names the CA to trust, as it does for the real commands.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/apptainer/container-library-client/client"
)

type options struct {
	base, token, agent, arch, tags, desc string
	concurrency                          uint
	partSize                             int64
	verbose, spoil                       bool
	timeout                              time.Duration
}

type stderrLog struct{}

func (stderrLog) Log(v ...interface{})                 { fmt.Fprintln(os.Stderr, v...) }
func (stderrLog) Logf(format string, v ...interface{}) { fmt.Fprintf(os.Stderr, format+"\n", v...) }

func readOptions() options {
	var o options
	flag.StringVar(&o.base, "base", "", "base URL of the library")
	flag.StringVar(&o.token, "token", "", "access token")
	flag.StringVar(&o.agent, "agent", "Apptainer/1.0.2 (Linux amd64) Go/1.19", "User-Agent of API calls")
	flag.StringVar(&o.arch, "arch", "amd64", "architecture")
	flag.StringVar(&o.tags, "tags", "latest", "tags of a push, separated by commas")
	flag.StringVar(&o.desc, "desc", "", "description of a push")
	flag.UintVar(&o.concurrency, "conc", 3, "parallel ranges of cpull")
	flag.Int64Var(&o.partSize, "part", 5<<20, "bytes of one range of cpull")
	flag.BoolVar(&o.spoil, "spoil", false, "change one bit of a push on its way, as a broken network would")
	flag.BoolVar(&o.verbose, "v", false, "the client's own log on standard error")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "for the whole command")
	flag.Parse()
	return o
}

func main() {
	o := readOptions()
	if flag.NArg() < 1 || o.base == "" {
		fmt.Fprintln(os.Stderr, "usage: library_client -base URL [flags] version|get|push|pull|cpull|search|delete ...")
		os.Exit(2)
	}
	config := &client.Config{BaseURL: o.base, AuthToken: o.token, UserAgent: o.agent}
	if o.verbose {
		config.Logger = stderrLog{}
	}
	library, err := client.NewClient(config)
	if err != nil {
		fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()

	result, err := run(ctx, library, o, flag.Arg(0), flag.Args()[1:])
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, c *client.Client, o options, command string, args []string) (interface{}, error) {
	need := map[string]int{"version": 0, "get": 1, "push": 2, "pull": 2, "cpull": 2, "search": 1, "delete": 1}
	count, known := need[command]
	if !known || len(args) != count {
		return nil, fmt.Errorf("%s: unknown command or wrong number of arguments", command)
	}
	switch command {
	case "version":
		return c.GetVersion(ctx)
	case "get":
		return c.GetImage(ctx, o.arch, args[0])
	case "push":
		return push(ctx, c, o, args[0], args[1])
	case "pull":
		return pull(ctx, c, o, args[0], args[1], false)
	case "cpull":
		return pull(ctx, c, o, args[0], args[1], true)
	case "search":
		return c.Search(ctx, map[string]string{"value": args[0], "arch": o.arch})
	default:
		return map[string]string{"deleted": args[0]}, c.DeleteImage(ctx, args[0], o.arch)
	}
}

// counted tells how many bytes the server asked for: a push of an image that is already there sends none.
type counted struct {
	reader io.Reader
	bytes  int64
	spoil  bool
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	if c.spoil && n > 0 {
		p[n-1] ^= 1
		c.spoil = false
	}
	c.bytes += int64(n)
	return n, err
}

func (c *counted) InitUpload(_ int64, r io.Reader) { c.reader = r }
func (c *counted) GetReader() io.Reader            { return c }
func (c *counted) Terminate()                      {}
func (c *counted) Finish()                         {}

func push(ctx context.Context, c *client.Client, o options, path, file string) (interface{}, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sent := &counted{spoil: o.spoil}
	done, err := c.UploadImage(ctx, f, path, o.arch, strings.Split(o.tags, ","), o.desc, sent)
	if err != nil {
		return nil, err
	}
	return map[string]interface{}{"sent": sent.bytes, "complete": done}, nil
}

func pull(ctx context.Context, c *client.Client, o options, ref, file string, parallel bool) (interface{}, error) {
	path, tag := ref, "latest"
	if cut := strings.LastIndex(ref, ":"); cut >= 0 {
		path, tag = ref[:cut], ref[cut+1:]
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if parallel {
		spec := &client.Downloader{Concurrency: o.concurrency, PartSize: o.partSize, BufferSize: 32 << 10}
		err = c.ConcurrentDownloadImage(ctx, f, o.arch, path, tag, spec, nil)
	} else {
		err = c.DownloadImage(ctx, f, o.arch, path, tag, nil)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return map[string]interface{}{"size": info.Size()}, nil
}
