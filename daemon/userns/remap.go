package userns

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

const (
	// byDefault asks for the user that the engine keeps for this.
	byDefault = "default"
	// remapUser is that user, and his group.
	remapUser = "dockremap"
)

// Load gives the mapping that --userns-remap asks for: the subordinate ids of a user, in
// the order of /etc/subuid and /etc/subgid. "" and root map nothing; "default" makes its
// user when there is none. The texts are dockerd's.
func Load(option string, log *slog.Logger) (Mapping, error) {
	if option == "" {
		return Mapping{}, nil
	}
	name, err := parseRemap(option, hostUsers{})
	if err != nil {
		return Mapping{}, err
	}
	if name == "root" {
		log.Warn("user namespaces: root cannot be remapped with itself; user namespaces are off")
		return Mapping{}, nil
	}
	m, err := user.LoadIdentityMapping(name)
	if err == nil {
		err = Check(m)
	}
	if err != nil {
		return Mapping{}, fmt.Errorf("Can't create ID mappings: %w", err) //nolint:staticcheck // Docker's words, as below
	}
	log.Info("user namespaces: ids are mapped to the subordinate ranges of a user", "user", name)
	return m, nil
}

// CheckOption refuses what is no user[:group] at all.
func CheckOption(option string) error {
	if strings.Count(option, ":") > 1 {
		return fmt.Errorf("Invalid user/group specification in --userns-remap: %q", option) //nolint:staticcheck
	}
	return nil
}

// users looks users and groups up.
type users interface {
	user(name string) (user.User, error)
	userID(id int) (user.User, error)
	group(name string) (user.Group, error)
	groupID(id int) (user.Group, error)
	add(name string) error
}

// parseRemap returns the user that the option names. Its group must exist too.
func parseRemap(option string, db users) (name string, err error) {
	if err := CheckOption(option); err != nil {
		return "", err
	}
	who, group, grouped := strings.Cut(option, ":")
	made := false
	if id, isID := number(who); isID {
		u, err := db.userID(id)
		if err != nil {
			return "", fmt.Errorf("Uid %d has no entry in /etc/passwd: %w", id, err) //nolint:staticcheck
		}
		name = u.Name
	} else if name, made, err = lookUp(who, db); err != nil {
		return "", err
	}
	switch {
	case made:
	case grouped:
		err = checkGroup(group, db)
	default:
		err = ownGroup(who, name, db)
	}
	if err != nil {
		return "", err
	}
	return name, nil
}

// lookUp finds a user by name; the default one is made.
func lookUp(who string, db users) (name string, made bool, err error) {
	name = who
	if who == byDefault {
		name = remapUser
	}
	u, err := db.user(name)
	switch {
	case err == nil:
		return u.Name, false, nil
	case who != byDefault:
		return "", false, fmt.Errorf("Error during uid lookup for %q: %w", name, err) //nolint:staticcheck
	}
	if err := db.add(name); err != nil {
		return "", false, fmt.Errorf("Error during %q user creation: %w", name, err) //nolint:staticcheck
	}
	return name, true, nil
}

func checkGroup(group string, db users) error {
	if id, isID := number(group); isID {
		if _, err := db.groupID(id); err != nil {
			return fmt.Errorf("Gid %d has no entry in /etc/passwd: %w", id, err) //nolint:staticcheck
		}
		return nil
	}
	if _, err := db.group(group); err != nil {
		return fmt.Errorf("Error during groupname lookup for %q: %w", group, err) //nolint:staticcheck
	}
	return nil
}

// ownGroup wants a group like the user, by number where that is how the user was named.
func ownGroup(who, name string, db users) error {
	if id, isID := number(who); isID {
		if _, err := db.groupID(id); err != nil {
			return fmt.Errorf("Gid %d has no entry in /etc/group: %w", id, err) //nolint:staticcheck
		}
		return nil
	}
	if _, err := db.group(name); err != nil {
		return fmt.Errorf("Error during gid lookup for %q: %w", name, err) //nolint:staticcheck
	}
	return nil
}

func number(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil
}
