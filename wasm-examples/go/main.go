// Command checksum prints the SHA-256 of every file in a directory (default /texts), as of a mounted ConfigMap.
//
// Build: GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o checksum.wasm main.go
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := "/texts"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%x  %s\n", sha256.Sum256(content), entry.Name())
	}
}
