package awsfake

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// find returns the key that a KeyId names: an id, an ARN, an alias, an alias
// ARN. Ids and aliases are those of the caller's account and region. s.mu is held.
func (c *call) find(keyID string) (*key, string, error) {
	c.record.Resource = keyID
	region, account, rest := c.region, c.account, keyID
	if strings.HasPrefix(keyID, "arn:") {
		parts := strings.SplitN(keyID, ":", 6)
		if len(parts) != 6 || parts[1] != "aws" || parts[2] != "kms" {
			return nil, "", refuse("InvalidArnException", "Invalid arn "+keyID)
		}
		region, account, rest = parts[3], parts[4], strings.TrimPrefix(parts[5], "key/")
		if region != c.region {
			return nil, "", refuse("NotFoundException", "Invalid arn "+region)
		}
	}
	id := rest
	if strings.HasPrefix(rest, "alias/") {
		var ok bool
		if id, ok = c.aliases[aliasARN(region, account, rest)]; !ok {
			if account != c.account { // AWS does not say what another account has
				return nil, "", c.accessDenied(keyID)
			}
			return nil, "", refuse("NotFoundException", "Alias "+aliasARN(region, account, rest)+" is not found.")
		}
	}
	k := c.keys[id]
	if k == nil || k.Account != account || !k.in(region) {
		if account != c.account {
			return nil, "", c.accessDenied(keyID)
		}
		return nil, "", refuse("NotFoundException", "Key '"+keyARN(region, account, id)+"' does not exist")
	}
	arn := keyARN(region, account, id)
	if !k.ownedOrShared(c.account) {
		return nil, "", c.accessDenied(arn)
	}
	if err := c.allowed(arn); err != nil {
		return nil, "", err
	}
	return k, arn, nil
}

// usable is what AWS's table of key states says of cryptographic operations.
func (k *key) usable(arn string) error {
	switch k.state {
	case Enabled:
		return nil
	case Disabled:
		return refuse("DisabledException", arn+" is disabled.")
	case PendingDeletion:
		return refuse("KMSInvalidStateException", arn+" is pending deletion.")
	default:
		return refuse("KMSInvalidStateException", arn+" is pending import.")
	}
}

func (c *call) sign() (any, error) {
	var in struct {
		KeyId            string
		Message          []byte
		MessageType      string
		SigningAlgorithm string
		GrantTokens      []string
		DryRun           *bool
	}
	if err := c.decode(&in, "KeyId", "Message", "SigningAlgorithm"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	k, arn, err := c.find(in.KeyId)
	zeros := c.zeros > 0
	if err == nil {
		err = k.usable(arn)
	}
	if err == nil && zeros {
		c.zeros--
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if k.Usage != "SIGN_VERIFY" {
		return nil, refuse("InvalidKeyUsageException", fmt.Sprintf("%s key usage is %s which is not valid for Sign.", arn, k.Usage))
	}
	hash, ok := k.algorithms()[in.SigningAlgorithm]
	if !ok {
		return nil, refuse("InvalidKeyUsageException", fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", in.SigningAlgorithm, k.Spec))
	}
	digest := in.Message
	switch in.MessageType {
	case "DIGEST":
		if len(digest) != hash.Size() {
			return nil, refuse("ValidationException", "Digest is invalid length for algorithm "+in.SigningAlgorithm+".")
		}
	case "RAW", "":
		if len(in.Message) == 0 || len(in.Message) > 4096 {
			return nil, refuse("ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length between 1 and 4096")
		}
		h := hash.New()
		h.Write(in.Message)
		digest = h.Sum(nil)
	default:
		return nil, refuse("ValidationException", "1 validation error detected: Value at 'messageType' failed to satisfy constraint: Member must satisfy enum value set: [DIGEST, RAW]")
	}
	if in.DryRun != nil && *in.DryRun {
		return nil, refuse("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
	}
	sig, err := k.signDigest(in.SigningAlgorithm, digest, zeros)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn, "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

func (c *call) getPublicKey() (any, error) {
	var in struct {
		KeyId       string
		GrantTokens []string
	}
	if err := c.decode(&in, "KeyId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, arn, err := c.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	if err := k.usable(arn); err != nil {
		return nil, err
	}
	if k.Private == nil {
		return nil, refuse("UnsupportedOperationException", "")
	}
	out := map[string]any{
		"KeyId": arn, "PublicKey": k.spki(), "KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec, "KeyUsage": k.Usage,
	}
	if algorithms := k.algorithms(); algorithms != nil {
		out["SigningAlgorithms"] = slices.Sorted(maps.Keys(algorithms))
	} else {
		out["EncryptionAlgorithms"] = []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}
	}
	return out, nil
}

func (c *call) describeKey() (any, error) {
	var in struct {
		KeyId       string
		GrantTokens []string
	}
	if err := c.decode(&in, "KeyId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, arn, err := c.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": k.metadata(arn)}, nil
}

func (k *key) metadata(arn string) map[string]any {
	m := map[string]any{
		"AWSAccountId": k.Account, "KeyId": k.id, "Arn": arn, "CreationDate": seconds(k.Created), "Description": "",
		"Enabled": k.state == Enabled, "KeyState": k.state, "KeyUsage": k.Usage, "KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec,
		"Origin": k.Origin, "KeyManager": "CUSTOMER", "MultiRegion": k.MultiRegion,
	}
	if algorithms := k.algorithms(); algorithms != nil {
		m["SigningAlgorithms"] = slices.Sorted(maps.Keys(algorithms))
	}
	if k.MultiRegion {
		kind := "PRIMARY"
		if arn != k.arn {
			kind = "REPLICA"
		}
		replicas := []map[string]string{}
		for _, region := range k.replicas {
			replicas = append(replicas, map[string]string{"Arn": keyARN(region, k.Account, k.id), "Region": region})
		}
		m["MultiRegionConfiguration"] = map[string]any{
			"MultiRegionKeyType": kind, "PrimaryKey": map[string]string{"Arn": k.arn, "Region": k.Region}, "ReplicaKeys": replicas,
		}
	}
	return m
}

func (c *call) createKey() (any, error) {
	var in struct {
		KeySpec, KeyUsage, Description, Origin string
		MultiRegion                            bool
		Tags                                   []map[string]string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	setDefault(&in.KeySpec, "SYMMETRIC_DEFAULT")
	usages, ok := usages[in.KeySpec]
	if !ok {
		return nil, refuse("ValidationException", "1 validation error detected: Value at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set")
	}
	setDefault(&in.KeyUsage, "ENCRYPT_DECRYPT")
	if !slices.Contains(usages, in.KeyUsage) {
		return nil, refuse("ValidationException", "KeyUsage "+in.KeyUsage+" is not compatible with KeySpec "+in.KeySpec)
	}
	c.mu.Lock()
	err := c.allowed("*")
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	arn := c.CreateKey(Key{Spec: in.KeySpec, Usage: in.KeyUsage, Origin: in.Origin, MultiRegion: in.MultiRegion, Region: c.region, Account: c.account})
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[string]any{"KeyMetadata": c.mustKey(arn).metadata(arn)}, nil
}

// usages are the KeyUsages that each KeySpec of CreateKey can have.
var usages = map[string][]string{
	"SYMMETRIC_DEFAULT": {"ENCRYPT_DECRYPT"},
	"RSA_2048":          {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
	"RSA_3072":          {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
	"RSA_4096":          {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
	"ECC_NIST_P256":     {"SIGN_VERIFY"},
	"ECC_NIST_P384":     {"SIGN_VERIFY"},
}

func (c *call) createAlias() (any, error) { return c.setAlias(false) }
func (c *call) updateAlias() (any, error) { return c.setAlias(true) }

func (c *call) setAlias(exists bool) (any, error) {
	var in struct{ AliasName, TargetKeyId string }
	if err := c.decode(&in, "AliasName", "TargetKeyId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	alias, err := c.ownAlias(in.AliasName)
	if err != nil {
		return nil, err
	}
	was, there := c.aliases[alias]
	switch {
	case there && !exists:
		return nil, refuse("AlreadyExistsException", "An alias with the name "+alias+" already exists")
	case !there && exists:
		return nil, refuse("NotFoundException", "Alias "+alias+" is not found.")
	}
	k, arn, err := c.find(in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if exists && (c.keys[was].Usage != k.Usage || (c.keys[was].Private == nil) != (k.Private == nil)) {
		return nil, refuse("ValidationException", "Alias must point to a key of the same type and usage.")
	}
	if k.state == PendingDeletion {
		return nil, k.usable(arn)
	}
	c.aliases[alias] = k.id
	return struct{}{}, nil
}

// ownAlias returns the ARN of an alias of the caller's account and region that it
// may change; c.mu is held.
func (c *call) ownAlias(name string) (string, error) {
	switch {
	case !aliasName.MatchString(name):
		return "", refuse("ValidationException", "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/programming-aliases.html")
	case strings.HasPrefix(name, "alias/aws/"):
		return "", refuse("NotAuthorizedException", "")
	}
	alias := aliasARN(c.region, c.account, name)
	return alias, c.allowed(alias)
}

var aliasName = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)

func (c *call) deleteAlias() (any, error) {
	var in struct{ AliasName string }
	if err := c.decode(&in, "AliasName"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	alias, err := c.ownAlias(in.AliasName)
	if err != nil {
		return nil, err
	}
	if _, ok := c.aliases[alias]; !ok {
		return nil, refuse("NotFoundException", "Alias "+alias+" is not found.")
	}
	delete(c.aliases, alias)
	return struct{}{}, nil
}

func (c *call) disableKey() (any, error) { return c.switchKey(Disabled) }
func (c *call) enableKey() (any, error)  { return c.switchKey(Enabled) }

func (c *call) switchKey(state string) (any, error) {
	_, err := c.setState(state, func(k *key, arn string) error {
		if k.state == PendingDeletion || k.state == PendingImport {
			return k.usable(arn)
		}
		return nil
	})
	return struct{}{}, err
}

func (c *call) cancelKeyDeletion() (any, error) {
	arn, err := c.setState(Disabled, func(k *key, arn string) error {
		if k.state != PendingDeletion {
			return refuse("KMSInvalidStateException", arn+" is not pending deletion.")
		}
		return nil
	})
	return map[string]any{"KeyId": arn}, err
}

// setState changes the state of the key that is named, unless refused says why not.
func (c *call) setState(state string, refused func(k *key, arn string) error) (arn string, err error) {
	var in struct{ KeyId string }
	if err := c.decode(&in, "KeyId"); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, arn, err := c.find(in.KeyId)
	if err == nil {
		err = refused(k, arn)
	}
	if err != nil {
		return "", err
	}
	k.state = state
	return arn, nil
}

func (c *call) scheduleKeyDeletion() (any, error) {
	var in struct {
		KeyId               string
		PendingWindowInDays *int
	}
	if err := c.decode(&in, "KeyId"); err != nil {
		return nil, err
	}
	days := 30
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < 7 || days > 30 {
		return nil, refuse("ValidationException", "PendingWindowInDays must be between 7 and 30.")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, arn, err := c.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	if k.state == PendingDeletion {
		return nil, k.usable(arn)
	}
	k.state = PendingDeletion
	return map[string]any{
		"KeyId": arn, "KeyState": PendingDeletion, "PendingWindowInDays": days, "DeletionDate": seconds(c.now().AddDate(0, 0, days)),
	}, nil
}

// seconds is a time as AWS JSON has it: seconds since 1970, with a fraction.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
