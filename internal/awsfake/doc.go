// Package awsfake is an AWS for tests: KMS and Secrets Manager as they speak on
// the wire (AWS JSON 1.1), strict, in memory, with real cryptography. The real
// SDK clients talk to it through their BaseEndpoint or AWS_ENDPOINT_URL:
//
//	aws := awsfake.New(nil)
//	t.Cleanup(aws.Close)
//	key := aws.CreateKey(awsfake.Key{Spec: "ECC_NIST_P384"})
//	aws.SetAlias("alias/smart", key)
//	client := kms.New(kms.Options{
//		Region: awsfake.Region, BaseEndpoint: &aws.URL,
//		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
//	})
//
// Requests are verified as AWS verifies them: Signature Version 4 is computed
// anew, with the date 5 minutes off at most; temporary credentials need their
// session token and end; members that an operation does not have are refused.
// Errors have AWS's names, statuses and shapes. A refusal has a request id, as
// every answer has.
//
// Operations. KMS: Sign, GetPublicKey, DescribeKey, CreateKey, CreateAlias,
// UpdateAlias, DeleteAlias, DisableKey, EnableKey, ScheduleKeyDeletion,
// CancelKeyDeletion. Secrets Manager: GetSecretValue, PutSecretValue,
// DescribeSecret, CreateSecret, RotateSecret, UpdateSecretVersionStage,
// DeleteSecret, RestoreSecret. What a test can't do as a client does, it does
// with the methods of [Server]: [Server.Deny], [Server.Inject], [Server.Stop].
package awsfake
