package dev

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom Postgres runs as.
type account struct {
	uid, gid uint32
	other    bool // not ourselves
}

// unprivileged returns the account for Postgres, which refuses to run as root:
// the owner of the data when there is some, the account that a package has made
// for Postgres, or nobody.
func unprivileged(data string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	if info, err := os.Stat(data); err == nil {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			return account{uid: owner.Uid, gid: owner.Gid, other: true}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return account{uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return account{}, errors.New("Postgres refuses to run as root, and neither user postgres nor user nobody exists to run it as; add one (useradd --system postgres), or run this as an ordinary user")
}

// attributes are for a command to run as the account.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if a.other {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// reaches says whether the account may pass through every directory down to
// dir, dir itself left out. A checkout under /root is the usual one that fails.
func (a account) reaches(dir string) bool {
	if !a.other {
		return true
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return false
		}
		mode, owner := info.Mode().Perm(), info.Sys().(*syscall.Stat_t)
		switch {
		case owner.Uid == a.uid:
			mode >>= 6
		case owner.Gid == a.gid:
			mode >>= 3
		}
		if mode&1 == 0 {
			return false
		}
		if parent == filepath.Dir(parent) {
			return true
		}
	}
}

// home makes a directory for the account's files: dir, or, where the account
// cannot reach it, one named after dir in a temporary directory. We widen no
// permission of the user's to get there.
func (a account) home(dir string) (string, error) {
	if !a.reaches(dir) {
		name := fmt.Sprintf("rehome-%d-%.6x", os.Getuid(), sha256.Sum256([]byte(dir)))
		dir = ""
		// /var/tmp first: it is kept over a reboot.
		for _, tmp := range []string{"/var/tmp", os.TempDir(), "/tmp"} {
			if info, err := os.Stat(tmp); err == nil && info.IsDir() && a.reaches(filepath.Join(tmp, name)) {
				dir = filepath.Join(tmp, name)
				break
			}
		}
		if dir == "" {
			return "", fmt.Errorf("no directory for Postgres: user id %d, whom it runs as, reaches neither the checkout nor a temporary directory; move the checkout to where others may enter, or run as an ordinary user", a.uid)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make a directory for Postgres: %w", err)
	}
	// Somebody else's directory of that name must not get our data: in a shared
	// temporary directory anyone can have made it.
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the directory for Postgres: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if !info.IsDir() || owner != a.uid && owner != uint32(os.Geteuid()) {
		return "", fmt.Errorf("%s belongs to user id %d and Postgres would run as %d; remove it, or run as the user who made it", dir, owner, a.uid)
	}
	if a.other {
		if err := os.Lchown(dir, int(a.uid), int(a.gid)); err != nil {
			return "", fmt.Errorf("give the directory for Postgres to the user it runs as: %w", err)
		}
	}
	return dir, nil
}
