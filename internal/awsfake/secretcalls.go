package awsfake

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// present returns a secret that is not scheduled for deletion; c.mu is held.
func (c *call) present(id string) (*secret, error) {
	k, err := c.secretNamed(id)
	if err != nil {
		return nil, err
	}
	if !k.deleted.IsZero() {
		return nil, refuse("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	}
	return k, nil
}

func (c *call) getSecretValue() (any, error) {
	var in struct{ SecretId, VersionId, VersionStage string }
	if err := c.decode(&in, "SecretId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.present(in.SecretId)
	if err != nil {
		return nil, err
	}
	var v *version
	switch {
	case in.VersionId != "":
		v = k.versions[in.VersionId]
		if v != nil && in.VersionStage != "" && !slices.Contains(v.stages, in.VersionStage) {
			return nil, refuse("InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
		}
		if v == nil || v.empty() {
			return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: "+in.VersionId)
		}
	default:
		setDefault(&in.VersionStage, Current)
		if v = k.at(in.VersionStage); v == nil || v.empty() {
			return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: "+in.VersionStage)
		}
	}
	if k.locked {
		return nil, refuse("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key.")
	}
	out := map[string]any{
		"ARN": k.arn, "Name": k.name, "VersionId": v.id, "VersionStages": slices.Clone(v.stages), "CreatedDate": seconds(v.created),
	}
	if v.text != nil {
		out["SecretString"] = *v.text
	} else {
		out["SecretBinary"] = v.binary
	}
	return out, nil
}

func (c *call) putSecretValue() (any, error) {
	var in struct {
		SecretId, ClientRequestToken string
		SecretString                 *string
		SecretBinary                 []byte
		VersionStages                []string
		RotationToken                string
	}
	if err := c.decode(&in, "SecretId"); err != nil {
		return nil, err
	}
	if err := checkToken(in.ClientRequestToken); err != nil {
		return nil, err
	}
	if (in.SecretString == nil) == (in.SecretBinary == nil) {
		return nil, refuse("InvalidRequestException", "You must provide either SecretString or SecretBinary.")
	}
	if len(in.VersionStages) == 0 {
		in.VersionStages = []string{Current}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.present(in.SecretId)
	if err != nil {
		return nil, err
	}
	v := k.versions[in.ClientRequestToken]
	if v != nil && !v.empty() {
		if !v.same(in.SecretString, in.SecretBinary) {
			return nil, refuse("ResourceExistsException", "You can't modify an existing version, you can only create new ones.")
		}
	} else {
		if v == nil {
			v = k.put(c.now(), in.ClientRequestToken, nil, nil)
		}
		v.text, v.binary, v.created = in.SecretString, in.SecretBinary, c.now()
	}
	if k.at(Current) == nil && len(k.versions) == 1 { // the first version is the current one
		k.label(Current, v)
	}
	for _, stage := range in.VersionStages {
		k.label(stage, v)
	}
	k.changed = c.now()
	return map[string]any{"ARN": k.arn, "Name": k.name, "VersionId": v.id, "VersionStages": slices.Clone(v.stages)}, nil
}

func checkToken(token string) error {
	if n := len(token); n < 32 || n > 64 {
		return refuse("InvalidParameterException", "ClientRequestToken must be 32-64 characters long.")
	}
	return nil
}

func (v *version) same(text *string, binary []byte) bool {
	if text != nil {
		return v.text != nil && *v.text == *text
	}
	return v.binary != nil && bytes.Equal(v.binary, binary)
}

func (c *call) describeSecret() (any, error) {
	var in struct{ SecretId string }
	if err := c.decode(&in, "SecretId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.secretNamed(in.SecretId)
	if err != nil {
		return nil, err
	}
	stages := map[string][]string{}
	for id, v := range k.versions {
		if len(v.stages) > 0 {
			stages[id] = slices.Clone(v.stages)
		}
	}
	out := map[string]any{
		"ARN": k.arn, "Name": k.name, "CreatedDate": seconds(k.created), "LastChangedDate": seconds(k.changed),
		"RotationEnabled": k.rotation, "VersionIdsToStages": stages,
	}
	for name, at := range map[string]time.Time{"DeletedDate": k.deleted, "LastRotatedDate": k.rotated} {
		if !at.IsZero() {
			out[name] = seconds(at)
		}
	}
	return out, nil
}

func (c *call) createSecret() (any, error) {
	var in struct {
		Name, ClientRequestToken, Description string
		SecretString                          *string
		SecretBinary                          []byte
		Tags                                  []map[string]string
	}
	if err := c.decode(&in, "Name"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.allowed(in.Name); err != nil {
		return nil, err
	}
	for _, k := range c.secrets {
		if k.name == in.Name && k.region == c.region && k.account == c.account {
			return nil, refuse("ResourceExistsException", "The operation failed because the secret "+in.Name+" already exists.")
		}
	}
	if in.SecretString != nil || in.SecretBinary != nil {
		if err := checkToken(in.ClientRequestToken); err != nil {
			return nil, err
		}
	}
	k := c.makeSecret(c.region, c.account, in.Name)
	out := map[string]any{"ARN": k.arn, "Name": k.name}
	if in.SecretString != nil || in.SecretBinary != nil {
		out["VersionId"] = k.put(c.now(), in.ClientRequestToken, in.SecretString, in.SecretBinary, Current).id
	}
	return out, nil
}

// rotateSecret does what AWS does before it calls the rotation function for the
// first time: a version that is nothing but the label AWSPENDING.
func (c *call) rotateSecret() (any, error) {
	var in struct {
		SecretId, ClientRequestToken, RotationLambdaARN string
		RotationRules                                   map[string]any
		RotateImmediately                               *bool
	}
	if err := c.decode(&in, "SecretId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.present(in.SecretId)
	if err != nil {
		return nil, err
	}
	if in.RotationLambdaARN == "" && !k.rotation {
		return nil, refuse("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
	}
	if err := checkToken(in.ClientRequestToken); err != nil {
		return nil, err
	}
	if pending := k.at(Pending); pending != nil && pending != k.at(Current) && pending.id != in.ClientRequestToken {
		return nil, refuse("InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted.")
	}
	k.rotation = true
	v := k.versions[in.ClientRequestToken]
	if v == nil {
		v = k.put(c.now(), in.ClientRequestToken, nil, nil)
	}
	k.label(Pending, v)
	return map[string]any{"ARN": k.arn, "Name": k.name, "VersionId": v.id}, nil
}

func (c *call) updateSecretVersionStage() (any, error) {
	var in struct{ SecretId, VersionStage, RemoveFromVersionId, MoveToVersionId string }
	if err := c.decode(&in, "SecretId", "VersionStage"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.present(in.SecretId)
	if err != nil {
		return nil, err
	}
	has := k.at(in.VersionStage)
	to := k.versions[in.MoveToVersionId]
	switch {
	case in.MoveToVersionId != "" && to == nil:
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret version: "+in.MoveToVersionId)
	case has != nil && has != to && in.RemoveFromVersionId == "":
		return nil, refuse("InvalidParameterException", fmt.Sprintf("The parameter RemoveFromVersionId can't be empty. "+
			"Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.", in.VersionStage, has.id))
	case in.RemoveFromVersionId != "" && (has == nil || has.id != in.RemoveFromVersionId):
		return nil, refuse("InvalidParameterException", fmt.Sprintf("The version %s does not have the staging label %s attached.", in.RemoveFromVersionId, in.VersionStage))
	case to == nil && in.VersionStage == Current:
		return nil, refuse("InvalidParameterException", "You can't remove the staging label AWSCURRENT: move it to another version.")
	}
	k.label(in.VersionStage, to)
	if in.VersionStage == Current {
		k.rotated = c.now()
	}
	k.changed = c.now()
	return map[string]any{"ARN": k.arn, "Name": k.name}, nil
}

func (c *call) deleteSecret() (any, error) {
	var in struct {
		SecretId                   string
		RecoveryWindowInDays       int
		ForceDeleteWithoutRecovery bool
	}
	if err := c.decode(&in, "SecretId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.secretNamed(in.SecretId)
	if err != nil {
		return nil, err
	}
	k.deleted = c.now()
	if in.ForceDeleteWithoutRecovery {
		delete(c.secrets, k.arn)
	}
	return map[string]any{"ARN": k.arn, "Name": k.name, "DeletionDate": seconds(c.now())}, nil
}

func (c *call) restoreSecret() (any, error) {
	var in struct{ SecretId string }
	if err := c.decode(&in, "SecretId"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.secretNamed(in.SecretId)
	if err != nil {
		return nil, err
	}
	k.deleted = time.Time{}
	return map[string]any{"ARN": k.arn, "Name": k.name}, nil
}
